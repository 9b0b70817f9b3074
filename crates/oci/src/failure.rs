//! What ends a command: a message for the log and stderr, and an exit code.

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    pub message: String,
    /// 1 for nearly everything, as runc; 255 for an `exec` that could not be.
    pub code: u8,
}

impl Failure {
    /// The words on the command line are wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }

    /// With another exit code.
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Said of this operation: `exec failed: …`.
    pub fn of(mut self, operation: &str) -> Self {
        self.message = format!("{operation}: {}", self.message);
        self
    }
}

impl From<barque_runtime::Error> for Failure {
    fn from(error: barque_runtime::Error) -> Self {
        Self::usage(error.to_string())
    }
}

/// Names the object of a failed system call.
pub(crate) trait While<T> {
    fn while_(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> While<T> for std::io::Result<T> {
    fn while_(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|e| {
            let text = e.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            Failure::usage(format!("{}: {}", what(), text.to_lowercase()))
        })
    }
}

impl<T> While<T> for rustix::io::Result<T> {
    fn while_(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(std::io::Error::from).while_(what)
    }
}
