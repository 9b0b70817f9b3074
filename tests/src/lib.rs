//! The end-to-end tests of the `barque` binary: the walk-through in `tests/walkthrough`, a suite per
//! feature in `tests/tests`. What they share is `barque-testkit`; this library is empty.
