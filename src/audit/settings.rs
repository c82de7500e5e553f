//! How a record is kept (contract §9, `[audit]`). Every default is a constant beside its field; the configuration is read
//! into this type.

use std::time::Duration;

/// How a record is kept.
#[derive(Clone, Copy, Debug)]
pub struct RecordSettings {
    /// How durable an intent is before its deletion is sent.
    pub sync: Sync,
    /// The size in bytes at which a new file is started.
    pub rotate_size: u64,
    /// The age at which a new file is started, if anything was written to the old one.
    pub rotate_age: Duration,
    /// How long after its last line a file is removed; `None` means never.
    pub retain: Option<Duration>,
    /// The free space in bytes below which a warning is given.
    pub low_water: u64,
    /// Whether a file is kept until it was copied elsewhere (`ShippedFiles`).
    pub ships: bool,
    /// The name of the writing command in the header. Not a setting.
    pub writer: &'static str,
}

impl RecordSettings {
    /// Default of [`RecordSettings::sync`].
    pub const SYNC: Sync = Sync::Each;
    /// Default of [`RecordSettings::rotate_size`]: 64 MiB.
    pub const ROTATE_SIZE: u64 = 64 << 20;
    /// Default of [`RecordSettings::rotate_age`]: a day.
    pub const ROTATE_AGE: Duration = Duration::from_secs(86_400);
    /// Default of [`RecordSettings::low_water`]: 256 MiB.
    pub const LOW_WATER: u64 = 256 << 20;
}

impl Default for RecordSettings {
    fn default() -> Self {
        Self {
            sync: Self::SYNC,
            rotate_size: Self::ROTATE_SIZE,
            rotate_age: Self::ROTATE_AGE,
            retain: None,
            low_water: Self::LOW_WATER,
            ships: false,
            writer: "serve",
        }
    }
}

/// How durable an intent is before its deletion is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Synced to disk: survives power loss. Concurrent intents share one sync.
    Each,
    /// Written to the operating system: survives a crash of the process.
    Os,
}
