//! Platforms; being written.
