//! What the parts of a specification come to.

use super::*;

mod actions {
    use super::*;

    #[test]
    fn every_action_has_its_return_value() {
        for (action, data, want) in [
            ("ALLOW", None, 0x7fff_0000),
            ("LOG", None, 0x7ffc_0000),
            ("ERRNO", None, 0x0005_0001),
            ("ERRNO", Some(38), 0x0005_0026),
            ("ERRNO", Some(0), 0x0005_0000),
            ("TRACE", None, 0x7ff0_0001),
            ("TRACE", Some(7), 0x7ff0_0007),
            ("TRAP", None, 0x0003_0000),
            ("KILL", None, 0),
            ("KILL_THREAD", None, 0),
            ("KILL_PROCESS", None, 0x8000_0000),
            ("NOTIFY", None, 0x7fc0_0000),
        ] {
            let mut r = rule(&["getpid"], action, &[]);
            r.errno_ret = data;
            let mut spec = profile("ERRNO", &[], vec![r]);
            spec.default_errno_ret = Some(99);
            spec.listener_path = Some("/run/agent".into());
            let program = build(&spec);
            let x = arch("X86_64");
            assert_eq!(ask(&program, x, number(x, "getpid"), &[]), want, "{action}");
            assert_eq!(ask(&program, x, number(x, "read"), &[]), errno(99));
            assert_eq!(program.notifies(), action == "NOTIFY");
        }
    }

    #[test]
    fn flags_and_their_company() {
        let flags = |names: &[&str], action| {
            let mut spec = profile("ERRNO", &[], vec![rule(&["getpid"], action, &[])]);
            spec.flags = names
                .iter()
                .map(|n| format!("SECCOMP_FILTER_FLAG_{n}"))
                .collect();
            spec.listener_path = Some("/run/agent".into());
            build(&spec).flags()
        };
        assert_eq!(flags(&[], "ALLOW"), sys::FLAG_SPEC_ALLOW);
        assert_eq!(flags(&["LOG"], "ALLOW"), sys::FLAG_LOG);
        assert_eq!(
            flags(&["TSYNC", "SPEC_ALLOW"], "ALLOW"),
            sys::FLAG_TSYNC | sys::FLAG_SPEC_ALLOW
        );
        assert_eq!(flags(&["TSYNC"], "NOTIFY"), 0);
        assert_eq!(flags(&["WAIT_KILLABLE_RECV"], "ALLOW"), 0);
        assert_eq!(
            flags(&["WAIT_KILLABLE_RECV"], "NOTIFY"),
            sys::FLAG_WAIT_KILLABLE_RECV
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let good = || profile("ERRNO", &[], vec![rule(&["getpid"], "ALLOW", &[])]);
        let with = |change: &dyn Fn(&mut Seccomp)| {
            let mut spec = good();
            change(&mut spec);
            compile(&spec).unwrap_err().to_string()
        };
        for (message, part) in [
            (
                with(&|s| s.default_action.clear()),
                "defaultAction: unknown action \"\"",
            ),
            (
                with(&|s| s.default_action = "SCMP_ACT_NOTIFY".into()),
                "cannot be the default",
            ),
            (
                with(&|s| s.syscalls[0].action = "ALLOW".into()),
                "rule for \"getpid\": unknown action",
            ),
            (
                with(&|s| s.syscalls[0].errno_ret = Some(1)),
                "SCMP_ACT_ALLOW has no use for errno 1",
            ),
            (
                with(&|s| s.default_errno_ret = Some(4096)),
                "errno 4096 does not exist",
            ),
            (
                with(&|s| s.syscalls[0].names.push(String::new())),
                "name is empty",
            ),
            (
                with(&|s| s.architectures.push("x86_64".into())),
                "unknown architecture \"x86_64\"",
            ),
            (
                with(&|s| s.flags.push("LOG".into())),
                "unknown flag \"LOG\"",
            ),
            (
                with(&|s| {
                    s.syscalls
                        .push(rule(&["read", "readv"], "LOG", &[(6, "EQ", 0, 0)]))
                }),
                "rule for \"read\" and 1 more: argument 6 does not exist",
            ),
            (
                with(&|s| s.syscalls.push(rule(&["read"], "LOG", &[(0, "IS", 0, 0)]))),
                "unknown comparison \"SCMP_CMP_IS\"",
            ),
            (
                with(&|s| s.syscalls.push(rule(&["read"], "NOTIFY", &[]))),
                "listenerPath: SCMP_ACT_NOTIFY is used",
            ),
            (
                with(&|s| s.listener_metadata = Some("x".into())),
                "listenerMetadata: is set, but listenerPath",
            ),
        ] {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }

    #[test]
    fn too_much_is_refused_and_much_is_not() {
        let many = |n| {
            let rules = (0..n)
                .map(|i| rule(&["ioctl"], "ALLOW", &[(1, "EQ", i * 3 + (i << 33), 0)]))
                .collect();
            profile("ERRNO", &[], rules)
        };
        let program = build(&many(900));
        let x = arch("X86_64");
        for i in [0, 1, 450, 899] {
            assert_eq!(
                ask(&program, x, number(x, "ioctl"), &[9, i * 3 + (i << 33)]),
                ALLOW
            );
            assert_eq!(
                ask(&program, x, number(x, "ioctl"), &[9, i * 3 + 1 + (i << 33)]),
                errno(1)
            );
        }
        let error = compile(&many(1200)).unwrap_err();
        assert!(matches!(error, Error::TooLarge { instructions } if instructions > 4096));
    }
}

mod precedence {
    use super::*;

    fn says(rules: &[SyscallRule], arguments: &[u64]) -> u32 {
        let program = build(&profile("ERRNO", &[], rules.to_vec()));
        ask(
            &program,
            arch("X86_64"),
            number(arch("X86_64"), "ioctl"),
            arguments,
        )
    }

    fn ioctl(action: &str, args: &[(u32, &str, u64, u64)]) -> SyscallRule {
        rule(&["ioctl"], action, args)
    }

    #[test]
    fn without_conditions_wins_and_the_first_of_those() {
        let trap_on_2 = ioctl("TRAP", &[(0, "EQ", 2, 0)]);
        let allow = ioctl("ALLOW", &[]);
        let log = ioctl("LOG", &[]);
        assert_eq!(says(&[trap_on_2.clone(), allow.clone()], &[2]), ALLOW);
        assert_eq!(says(&[allow.clone(), trap_on_2], &[2]), ALLOW);
        assert_eq!(says(&[allow.clone(), log.clone()], &[]), ALLOW);
        assert_eq!(says(&[log, allow], &[]), sys::RET_LOG);
    }

    #[test]
    fn the_defaults_own_outcome_shadows_nothing() {
        let deny = ioctl("ERRNO", &[]);
        assert_eq!(says(&[deny, ioctl("ALLOW", &[])], &[]), ALLOW);
    }

    #[test]
    fn conditions_of_one_rule_all_hold_but_on_one_argument_either() {
        let both = [ioctl("ALLOW", &[(0, "EQ", 1, 0), (2, "EQ", 5, 0)])];
        assert_eq!(says(&both, &[1, 0, 5]), ALLOW);
        assert_eq!(says(&both, &[1, 0, 4]), errno(1));
        let either = [ioctl("ALLOW", &[(0, "EQ", 1, 0), (0, "EQ", 2, 0)])];
        assert_eq!(says(&either, &[1]), ALLOW);
        assert_eq!(says(&either, &[2]), ALLOW);
        assert_eq!(says(&either, &[3]), errno(1));
    }

    #[test]
    fn the_narrow_before_the_wide_whatever_the_order() {
        let range = ioctl("ALLOW", &[(0, "LT", 10, 0)]);
        let point = ioctl("TRAP", &[(0, "EQ", 2, 0)]);
        for rules in [[range.clone(), point.clone()], [point, range]] {
            assert_eq!(says(&rules, &[2]), sys::RET_TRAP);
            assert_eq!(says(&rules, &[3]), ALLOW);
            assert_eq!(says(&rules, &[10]), errno(1));
        }
    }
}

mod newer_calls {
    use super::*;

    #[test]
    fn what_the_profile_cannot_know_is_enosys() {
        let rules = vec![rule(&["read", "openat2", "no_such_call"], "ALLOW", &[])];
        let program = build(&profile("ERRNO", &["X86"], rules.clone()));
        for a in [arch("X86_64"), arch("X86")] {
            assert_eq!(ask(&program, a, 437, &[]), ALLOW, "openat2");
            assert_eq!(ask(&program, a, 438, &[]), errno(38), "pidfd_getfd");
            assert_eq!(ask(&program, a, 9999, &[]), errno(38));
            assert_eq!(ask(&program, a, 436, &[]), errno(1), "close_range");
            assert_eq!(ask(&program, a, u32::MAX, &[]), errno(38));
        }
        for allowing in ["ALLOW", "LOG", "TRACE"] {
            let mut rules = rules.clone();
            rules[0].action = "SCMP_ACT_KILL".into();
            let program = build(&profile(allowing, &[], rules));
            let says = ask(&program, arch("X86_64"), 9999, &[]);
            assert_ne!(says, errno(38), "{allowing}");
        }
    }

    #[test]
    fn arms_private_calls_are_not_the_newest() {
        let spec = profile("ERRNO", &[], vec![rule(&["read", "set_tls"], "ALLOW", &[])]);
        let arm = arch("ARM");
        let program = compile_for(&spec, arm).unwrap();
        assert_eq!(ask(&program, arm, 3, &[]), ALLOW);
        assert_eq!(ask(&program, arm, 4, &[]), errno(38));
        assert_eq!(ask(&program, arm, 0xf0004, &[]), errno(1));
        assert_eq!(ask(&program, arm, 0xf0005, &[]), ALLOW);
    }

    #[test]
    fn call_zero_of_s390_is_an_unknown_call() {
        let spec = profile("ERRNO", &[], vec![rule(&["read", "exit"], "ALLOW", &[])]);
        let s390x = arch("S390X");
        let program = compile_for(&spec, s390x).unwrap();
        for (n, want) in [
            (0, errno(38)),
            (1, ALLOW),
            (2, errno(1)),
            (3, ALLOW),
            (4, errno(38)),
        ] {
            assert_eq!(ask(&program, s390x, n, &[]), want, "{n}");
        }
    }
}

mod architectures {
    use super::*;

    #[test]
    fn foreign_ones_are_killed() {
        let spec = profile("ALLOW", &["PARISC", "NATIVE"], vec![]);
        let program = build(&spec);
        assert_eq!(ask(&program, arch("X86_64"), 0, &[]), ALLOW);
        for a in ARCHES.iter().filter(|a| a.audit != arch("X86_64").audit) {
            assert_eq!(ask(&program, a, 0, &[]), sys::RET_KILL_THREAD, "{}", a.name);
        }
    }

    #[test]
    fn x32_is_killed_unless_named() {
        let rules = vec![rule(&["read"], "ALLOW", &[])];
        let x = arch("X86_64");
        let without = build(&profile("ERRNO", &[], rules.clone()));
        assert_eq!(ask(&without, x, X32_BIT, &[]), sys::RET_KILL_THREAD);
        assert_eq!(ask(&without, x, 0, &[]), ALLOW);
        let with = build(&profile("ERRNO", &["X32"], rules));
        assert_eq!(ask(&with, x, X32_BIT, &[]), ALLOW);
        assert_eq!(ask(&with, x, X32_BIT + 1, &[]), errno(38));
    }

    #[test]
    fn arguments_are_as_wide_as_the_architecture() {
        let rules = vec![
            rule(&["personality"], "ALLOW", &[(0, "EQ", 8, 0)]),
            rule(&["ioctl"], "ALLOW", &[(1, "NE", 0x5412, 0)]),
        ];
        for a in &ARCHES {
            let program = compile_for(&profile("ERRNO", &[a.name], rules.clone()), a).unwrap();
            check(program.instructions());
            let high = 1 << 32;
            let personality = number(a, "personality");
            let ioctl = number(a, "ioctl");
            let wide = |yes, no| if a.wide { yes } else { no };
            assert_eq!(ask(&program, a, personality, &[8]), ALLOW, "{}", a.name);
            assert_eq!(ask(&program, a, personality, &[9]), errno(1), "{}", a.name);
            assert_eq!(
                ask(&program, a, personality, &[8 | high]),
                wide(errno(1), ALLOW)
            );
            assert_eq!(
                ask(&program, a, ioctl, &[0, 0x5412]),
                errno(1),
                "{}",
                a.name
            );
            assert_eq!(ask(&program, a, ioctl, &[0, 0x5413]), ALLOW, "{}", a.name);
            assert_eq!(
                ask(&program, a, ioctl, &[0, 0x5412 | high]),
                wide(ALLOW, errno(1))
            );
        }
    }

    #[test]
    fn multiplexed_calls_are_caught_too() {
        let x86 = arch("X86");
        let (socketcall, ipc) = (number(x86, "socketcall"), number(x86, "ipc"));
        let allowed = build(&profile(
            "ERRNO",
            &["X86"],
            vec![rule(&["socket", "shmget"], "ALLOW", &[])],
        ));
        assert_eq!(ask(&allowed, x86, socketcall, &[1]), ALLOW);
        assert_eq!(ask(&allowed, x86, socketcall, &[2]), errno(1));
        assert_eq!(ask(&allowed, x86, ipc, &[23]), ALLOW);
        assert_eq!(ask(&allowed, x86, ipc, &[0x1_0017]), ALLOW);
        assert_eq!(ask(&allowed, x86, ipc, &[24]), errno(1));
        // What a condition would have looked at is out of sight: no way through, and no way around.
        let only_unix = rule(&["socket"], "ALLOW", &[(0, "EQ", 1, 0)]);
        let unseen = build(&profile("ERRNO", &["X86"], vec![only_unix]));
        assert_eq!(ask(&unseen, x86, socketcall, &[1]), errno(1));
        let not_alg = rule(&["socket"], "KILL", &[(0, "EQ", 38, 0)]);
        let denied = build(&profile("ALLOW", &["X86"], vec![not_alg]));
        assert_eq!(
            ask(&denied, x86, socketcall, &[1, 0xdead]),
            sys::RET_KILL_THREAD
        );
        assert_eq!(ask(&denied, x86, socketcall, &[2]), ALLOW);
    }
}
