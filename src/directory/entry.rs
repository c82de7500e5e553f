//! A key as a file describes it (contract §4).

use std::time::SystemTime;

use crate::credential::Secret;
use crate::policy::{Owner, Role};

/// One key. The configuration is read into this type.
#[derive(Debug)]
pub struct KeyEntry {
    /// The apiKey.
    pub api_key: String,
    /// One secret, or two while one replaces the other.
    pub secrets: Vec<Secret>,
    /// Account and member.
    pub owner: Owner,
    /// The role; `None` permits nothing.
    pub role: Option<Role>,
    /// Whether the key is switched on.
    pub active: bool,
    /// From when on the key is no longer accepted.
    pub expires: Option<SystemTime>,
    /// From when on the first of two secrets is no longer accepted.
    pub secret_1_expires: Option<SystemTime>,
    /// The line in its file at which it begins.
    pub line: usize,
}

impl KeyEntry {
    /// Default of [`KeyEntry::active`].
    pub const ACTIVE: bool = true;
}
