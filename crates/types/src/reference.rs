//! Image references; being written.
