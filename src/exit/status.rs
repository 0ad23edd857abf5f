//! With which code does the process end?

/// The process's exit codes (docs/interface.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    Done,
    Failed,
    /// Wrong usage or configuration, or a state that a restart will not mend.
    Usage,
    TakenOver,
    Refused,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::TakenOver => 3,
            Self::Refused => 4,
        }
    }

    /// The code of a process whose lenders ended so: the first of 2, 4, 3, 1 that occurred, else 0.
    pub fn of_all(exits: &[Self]) -> Self {
        let order = [Self::Usage, Self::Refused, Self::TakenOver, Self::Failed];
        order
            .into_iter()
            .find(|exit| exits.contains(exit))
            .unwrap_or(Self::Done)
    }
}
