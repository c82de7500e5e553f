//! `[replay]` (contract §9): which store keeps the spent salts, and how it is opened.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{
    Journal, JournalError, JournalSettings, Memory, MemorySettings, Redis, RedisSettings, RedisStartError, SpentSalts,
};
use crate::certificate::{self, CertificateUse, Expiry};
use crate::clock::Clock;

/// The store of spent salts.
#[derive(Clone, Debug)]
pub enum ReplaySettings {
    /// `[replay.memory]`: in the memory of this process; a restart forgets it.
    Memory(MemorySettings),
    /// `[replay.journal]`: on the disk of this process; it survives a restart.
    Journal(JournalSettings),
    /// `[replay.redis]`: shared by a fleet.
    Redis(Box<RedisSettings>),
}

impl ReplaySettings {
    /// Opens the store.
    ///
    /// # Errors
    /// If the journal is damaged or in use, or Redis answers but is misconfigured.
    pub(crate) fn open(&self, clock: Clock) -> Result<Box<dyn SpentSalts>, StoreOpenError> {
        Ok(match self {
            Self::Memory(settings) => Box::new(Memory::new(clock, *settings)),
            Self::Journal(settings) => {
                Box::new(Journal::open(clock, settings.clone()).map_err(StoreOpenError::Journal)?)
            }
            Self::Redis(settings) => {
                Box::new(Redis::start(clock, (**settings).clone()).map_err(StoreOpenError::Redis)?)
            }
        })
    }

    /// The expiry dates of the certificates for Redis. Without those of a file that cannot be read: the start refuses it
    /// anyway.
    pub(crate) fn expiries(&self) -> Vec<Expiry> {
        let Self::Redis(redis) = self else { return Vec::new() };
        let of = |part, path: Option<&Path>| {
            let found = path.and_then(|path| certificate::certificates(path).ok()).unwrap_or_default();
            certificate::expiries(part, &found)
        };
        let own = redis.client_certificate.as_ref().map(|client| &*client.certificate);
        [of(CertificateUse::RedisCa, redis.ca.as_deref()), of(CertificateUse::Redis, own)].concat()
    }

    /// The journal's directory, if the store is a journal.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Journal(settings) => Some(&settings.path),
            Self::Memory(_) | Self::Redis(_) => None,
        }
    }

    /// Makes the share of a key hold for the fleet. Does nothing for stores of one process.
    pub(crate) fn share_for_fleet(&mut self) {
        if let Self::Redis(settings) = self {
            settings.fleet_shares = true;
        }
    }

    /// Makes opening the journal move its existing files away and start behind the fence. Does nothing for other
    /// stores.
    pub(crate) fn discard_journal(&mut self) {
        if let Self::Journal(settings) = self {
            settings.discard = true;
        }
    }

    /// Sets the record's directory as the place of the journal's witness: see [`JournalSettings::witness_in`].
    pub(crate) fn set_record(&mut self, record: Option<PathBuf>) {
        if let Self::Journal(settings) = self {
            settings.witness_in = record;
        }
    }
}

/// Why a store of spent salts cannot be opened.
#[derive(Debug)]
pub enum StoreOpenError {
    /// See [`JournalError`].
    Journal(JournalError),
    /// See [`RedisStartError`].
    Redis(RedisStartError),
}

impl fmt::Display for StoreOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(error) => error.fmt(f),
            Self::Redis(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StoreOpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Journal(error) => Some(error),
            Self::Redis(error) => Some(error),
        }
    }
}
