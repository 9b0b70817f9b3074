#!/usr/bin/env python3
"""Records what libseccomp makes of profiles: src/seccomp/testdata/libseccomp.json.

    golden.py LIBSECCOMP DEFAULT_JSON > src/seccomp/testdata/libseccomp.json

LIBSECCOMP is a libseccomp.so.2 (the recorded answers are those of 2.6.0, Debian trixie, on amd64),
DEFAULT_JSON Docker's default profile (seccomp/default.json of github.com/moby/profiles). The filters
are exported as BPF and run here, by an interpreter of twenty lines. runc's ENOSYS stub is added.

Left out, and counted on stderr, are made-up specifications in which libseccomp itself does not do
what was asked. Its decision tree does not go back: where two rules for one call overlap and the
first fails on its second argument, the other is not tried (and upper halves of 64-bit comparisons are
merged with loss). Without the binary tree, filters for two architectures may even forget to load
the call's number; so the tree is on, as runc has it for large profiles.
"""

import ctypes as c
import errno
import json
import os
import random
import re
import struct
import sys
from pathlib import Path

LIB = c.CDLL(sys.argv[1])
TABLE = (Path(__file__).parent / "../src/seccomp/table.rs").read_text()

AUDIT = {
    "X86_64": 0xC000003E, "X86": 0x40000003, "X32": 0xC000003E, "AARCH64": 0xC00000B7,
    "ARM": 0x40000028, "S390X": 0x80000016, "S390": 0x16, "RISCV64": 0xC00000F3,
    "PPC64LE": 0xC0000015, "MIPS64": 0x80000008, "LOONGARCH64": 0xC0000102,
}
BIG_ENDIAN = {"S390X", "S390", "MIPS64"}
NARROW = {"X86", "X32", "ARM", "S390"}
DOCKER = {
    "X86_64": "amd64", "AARCH64": "arm64", "RISCV64": "riscv64", "S390X": "s390x",
    "LOONGARCH64": "loongarch64", "PPC64LE": "ppc64le",
}
ACTIONS = {
    "ALLOW": 0x7FFF0000, "LOG": 0x7FFC0000, "KILL": 0, "KILL_PROCESS": 0x80000000,
    "TRAP": 0x30000, "TRACE": 0x7FF00001, "ERRNO": 0x50001,
}
OPS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
ENOSYS = 0x50000 | errno.ENOSYS
X32_BIT = 0x40000000
COUNT = 150


class Arg(c.Structure):
    _fields_ = [("arg", c.c_uint), ("op", c.c_int), ("a", c.c_uint64), ("b", c.c_uint64)]


LIB.seccomp_init.restype = c.c_void_p
LIB.seccomp_init.argtypes = [c.c_uint32]
LIB.seccomp_rule_add_array.argtypes = [c.c_void_p, c.c_uint32, c.c_int, c.c_uint, c.POINTER(Arg)]
LIB.seccomp_arch_add.argtypes = LIB.seccomp_arch_remove.argtypes = [c.c_void_p, c.c_uint32]
LIB.seccomp_attr_set.argtypes = [c.c_void_p, c.c_int, c.c_uint32]
LIB.seccomp_export_bpf.argtypes = [c.c_void_p, c.c_int]
LIB.seccomp_release.argtypes = [c.c_void_p]
LIB.seccomp_arch_resolve_name.restype = c.c_uint32


def token(arch):
    return LIB.seccomp_arch_resolve_name(arch.lower().encode())


def numbers():
    columns = re.search(r"enum Column \{\s*(.*?),\s*\}", TABLE, re.S)[1].split(", ")
    table = {n: {} for n in columns}
    for row, call in re.findall(r"^    \[(.*)\], // (\w+)$", TABLE, re.M):
        for column, number in zip(columns, row.split(", ")):
            if number != "NONE":
                table[column][call] = int(number)
    return {a: table[{"X86_64": "X8664", "PPC64LE": "Ppc64"}.get(a, a.capitalize())] for a in AUDIT}


NUMBERS = numbers()


def answer(action, data=None):
    value = ACTIONS[action.removeprefix("SCMP_ACT_")]
    return value & 0xFFFF0000 | data if data is not None else value


def newest(spec, arch):
    """The largest number that the profile names: above it runc answers ENOSYS."""
    if answer(spec["defaultAction"]) in (ACTIONS["ALLOW"], ACTIONS["LOG"], ACTIONS["TRACE"]):
        return None
    known = [NUMBERS[arch].get(n) for r in spec["syscalls"] for n in r["names"]]
    return max((k for k in known if k is not None and not (arch == "ARM" and k >= 0xF0000)), default=None)


def build(spec):
    """libseccomp's program, filled as runc fills it; None when it refuses a rule."""
    arches = [a.removeprefix("SCMP_ARCH_") for a in spec["architectures"]]
    default = answer(spec["defaultAction"], spec.get("defaultErrnoRet"))
    context = LIB.seccomp_init(default)
    if "X86_64" not in arches:
        LIB.seccomp_arch_remove(context, token("X86_64"))
    for arch in arches:
        assert LIB.seccomp_arch_add(context, token(arch)) in (0, -errno.EEXIST)
    LIB.seccomp_attr_set(context, 8, 2)  # SCMP_FLTATR_CTL_OPTIMIZE: binary tree
    for rule in spec["syscalls"]:
        value = answer(rule["action"], rule.get("errnoRet"))
        if value == default:
            continue
        args = [
            Arg(a["index"], OPS[a["op"].removeprefix("SCMP_CMP_")], a["value"], a.get("valueTwo", 0))
            for a in rule.get("args") or []
        ]
        for name in rule["names"]:
            number = LIB.seccomp_syscall_resolve_name(name.encode())
            if number == -1:
                continue
            array = (Arg * max(1, len(args)))(*args)
            if LIB.seccomp_rule_add_array(context, value, number, len(args), array) != 0:
                return None
    fd = os.memfd_create("bpf")
    assert LIB.seccomp_export_bpf(context, fd) == 0
    code = os.pread(fd, 1 << 20, 0)
    os.close(fd)
    LIB.seccomp_release(context)
    order = ">" if arches[0] in BIG_ENDIAN else "<"
    return [struct.unpack_from(order + "HBBI", code, i) for i in range(0, len(code), 8)]


def run(program, arch, number, args):
    order = ">" if arch in BIG_ENDIAN else "<"
    data = struct.pack(order + "IIQ6Q", number, AUDIT[arch], 0, *args, *[0] * (6 - len(args)))
    at = acc = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        if code == 0x20:
            acc = struct.unpack_from(order + "I", data, k)[0]
        elif code == 0x54:
            acc &= k
        elif code == 0x05:
            at += k
        elif code == 0x06:
            # Exported on a little-endian machine for a big-endian one, some actions come out swapped.
            known = k == 0 or k & 0xFFFF0000 in {a & 0xFFFF0000 for a in ACTIONS.values() if a}
            return k if known else int.from_bytes(k.to_bytes(4, "little"), "big")
        else:
            yes = {0x15: acc == k, 0x25: acc > k, 0x35: acc >= k, 0x45: acc & k != 0}[code]
            at += jt if yes else jf


def ask(spec, program, arch, number, args):
    limit = newest(spec, arch)
    if limit is not None and (number > limit or number == 0 and arch.startswith("S390")):
        return ENOSYS
    return run(program, arch, number, args)


def plain(spec, arch, number, args):
    """What the specification says; None where rules for the call have different outcomes."""
    mask = 0xFFFFFFFF if arch in NARROW else 2**64 - 1
    rules = [r for r in spec["syscalls"] if any(NUMBERS[arch].get(n) == number for n in r["names"])]
    if not rules or len({r["action"] for r in rules}) > 1:
        return None
    for rule in rules:
        holds = []
        for a in rule.get("args") or []:
            x, v, w = args[a["index"]] & mask, a["value"] & mask, a.get("valueTwo", 0) & mask
            op = a["op"].removeprefix("SCMP_CMP_")
            holds.append({"EQ": x == v, "NE": x != v, "LT": x < v, "LE": x <= v, "GT": x > v,
                          "GE": x >= v, "MASKED_EQ": x & v == w & v}[op])
        if all(holds):
            return answer(rule["action"], rule.get("errnoRet"))
    return answer(spec["defaultAction"])


def docker_spec(profile, arch, caps):
    sub = [m["subArchitectures"] for m in profile["archMap"] if m["architecture"] == f"SCMP_ARCH_{arch}"]
    rules = []
    for rule in profile["syscalls"]:
        inc, exc = rule.get("includes") or {}, rule.get("excludes") or {}
        here = not inc.get("arches") or DOCKER[arch] in inc["arches"]
        gone = DOCKER[arch] in exc.get("arches", []) or set(caps) & set(exc.get("caps", []))
        if here and not gone and set(inc.get("caps", [])) <= set(caps):
            rules.append(rule)
    return {
        "defaultAction": profile["defaultAction"], "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [f"SCMP_ARCH_{arch}"] + [s for l in sub for s in l or []], "syscalls": rules,
    }


def docker_case(profile, arch, caps, detailed, sub=True):
    spec = docker_spec(profile, arch, caps)
    program = build(spec)
    runs, calls = [], []
    for a in (s.removeprefix("SCMP_ARCH_") for s in spec["architectures"]):
        if a != arch and not sub:
            continue
        base = X32_BIT if a == "X32" else 0
        wanted = list(range(base, base + (600 if base else 480)))
        if a == "ARM":
            # Beyond the ordinary calls runc's stub does not see; 341's second name libseccomp does not know.
            wanted = [n for n in wanted if n != 341 and n <= newest(spec, a)] + list(range(0xF0001, 0xF0006))
        if a == "LOONGARCH64":
            wanted.remove(447)  # memfd_secret: libseccomp says there is none
        for n in wanted:
            says = run(program, a, n, []) if n >= 0xF0000 and a == "ARM" else ask(spec, program, a, n, [])
            if runs and runs[-1][0] == a and runs[-1][2] == n - 1 and runs[-1][3] == says:
                runs[-1][2] = n
            else:
                runs.append([a, n, n, says])
        for call, values in detailed.items():
            if (n := NUMBERS[a].get(call)) is not None:
                for args in values:
                    calls.append([a, n, args, ask(spec, program, a, n, args)])
    return {"arch": arch, "caps": caps, "runs": runs, "calls": calls}


def docker_cases(profile):
    caps = sorted({c for r in profile["syscalls"] for c in (r.get("includes") or {}).get("caps", [])})
    flags = [0x11, 0x10000011, 0x20000, 0x3D0F00, 0x2000000, 1 << 32, 0x7E020000]
    detailed = {
        "socket": [[f] for f in [*range(60), 255, 0xFFFFFFFF, 40 | 1 << 32, 2 | 1 << 32]],
        "personality": [[p] for p in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 1, 8 | 1 << 32, 2**64 - 1)],
        "clone": [[f] for f in flags] + [[0, f] for f in flags],
    }
    for arch in DOCKER:
        yield docker_case(profile, arch, [], detailed)
        yield docker_case(profile, arch, ["CAP_SYS_ADMIN"], {} if arch != "X86_64" else detailed)
        yield docker_case(profile, arch, caps, {})
    for cap in caps:
        yield docker_case(profile, "X86_64", [cap], {}, sub=False)


CALLS = """read write open openat ioctl clone personality prctl keyctl mmap2 futex fchmodat2 openat2 pause
    clone3 execve exit_group mount umount2 set_tls bogus_call""".split()
MULTIPLEXED = "socket bind semop shmget msgctl socketcall ipc".split()
VALUES = [0, 1, 2, 3, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1,
          (1 << 33) + 7, 2**63 - 1, 2**64 - 2, 2**64 - 1, 0x7E020000]
ARCHES = [["X86_64"], ["X86_64", "X86"], ["X86_64", "X86", "X32"], ["AARCH64", "ARM"], ["S390X"],
          ["S390X", "S390"], ["RISCV64"], ["PPC64LE"], ["MIPS64"]]


def made_spec(rng, mixed):
    """Rules at random: one outcome for each call, or, when mixed, several on its first argument."""
    rules, outcomes = [], {}
    for _ in range(rng.randint(1, 8)):
        # A condition on a multiplexed call is what libseccomp and we differ in.
        names = rng.sample(CALLS, rng.randint(1, 2))
        args = []
        if rng.random() < 0.7:
            for index in [0] if mixed else rng.sample(range(6), rng.choice([1, 1, 2, 3])):
                # Where a mask overlaps an equality, libseccomp goes by their upper halves: not worth copying.
                op = rng.choice(list(OPS)[: 6 if mixed else 7])
                value = rng.choice(VALUES[1:])
                args.append({"index": index, "value": value, "op": "SCMP_CMP_" + op})
                if op == "MASKED_EQ":
                    args[-1]["valueTwo"] = rng.choice(VALUES) & value
        else:
            names.append(rng.choice(MULTIPLEXED))
        for name in names:
            outcome = outcomes.setdefault(name, rng.choice(["ALLOW", "ERRNO", "KILL", "TRAP", "LOG"]))
            rule = {"names": [name], "action": "SCMP_ACT_" + outcome, "args": args}
            if mixed:
                rule["action"] = "SCMP_ACT_" + rng.choice(["ALLOW", "TRAP", "LOG"])
            elif outcome == "ERRNO":
                rule["errnoRet"] = 13
            rules.append(rule)
    # runc takes a profile whose only known call has number 0 (read on x86_64) for one without any.
    rules.append({"names": ["exit"], "action": rules[0]["action"]})
    if "errnoRet" in rules[0]:
        rules[-1]["errnoRet"] = 13
    return {
        "defaultAction": "SCMP_ACT_" + rng.choice(["ERRNO", "ERRNO", "KILL", "ALLOW", "LOG"]),
        "architectures": ["SCMP_ARCH_" + a for a in rng.choice(ARCHES)],
        "syscalls": rules,
    }


def made_calls(rng, spec, program):
    for _ in range(18):
        arch = rng.choice(spec["architectures"]).removeprefix("SCMP_ARCH_")
        rule = rng.choice(spec["syscalls"])
        name = rule["names"][0] if rng.random() < 0.9 else rng.choice(CALLS + MULTIPLEXED)
        number = NUMBERS[arch].get(name)
        if number is None:
            number = rng.randint(0, 470) | (X32_BIT if arch == "X32" else 0)
        if arch == "ARM" and (newest(spec, arch) or 470) < number:
            continue  # see docker_case
        args = [rng.choice(VALUES) for _ in range(6)]
        for a in rule.get("args") or []:
            args[a["index"]] = rng.choice([a["value"], a.get("valueTwo", 0), a["value"] - 1, args[a["index"]]])
        if number in (NUMBERS[arch].get("ipc"), NUMBERS[arch].get("socketcall")):
            args[0] = rng.randint(0, 25)  # libseccomp forgets the version in ipc's upper half
        yield [arch, number, args, ask(spec, program, arch, number, args)]


def made_cases(count):
    rng = random.Random(1)
    left_out = refused = 0
    while count:
        spec = made_spec(rng, mixed=count % 3 == 0)
        program = build(spec)
        if program is None:
            refused += 1
            continue
        calls = list(made_calls(rng, spec, program))
        limits = {a: newest(spec, a) for a in AUDIT}
        wrong = [
            c for c in calls
            if c[3] != ENOSYS and (limits[c[0]] is None or c[1] <= limits[c[0]])
            and plain(spec, *c[:3]) not in (None, c[3])
        ]
        if wrong:
            left_out += 1
            continue
        count -= 1
        yield {"spec": spec, "calls": calls}
    print(f"{left_out} left out, {refused} refused by libseccomp", file=sys.stderr)


def main():
    profile = json.loads(Path(sys.argv[2]).read_text())
    print('{"docker":[')
    print(",\n".join(json.dumps(d, separators=(",", ":")) for d in docker_cases(profile)))
    print('],"made":[')
    print(",\n".join(json.dumps(m, separators=(",", ":")) for m in made_cases(COUNT)))
    print("]}")


main()
