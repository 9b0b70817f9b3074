//! Machines with a pure cgroup v2 kernel: see the cgroup tests.
