//! How a running gateway takes a new configuration.

use super::key_counts::KeyCounts;
use super::{Gateway, StartError, assemble};
use crate::config::{Config, Fault};

/// What a reload has taken.
#[derive(Debug)]
pub struct Reloaded {
    /// The settings that have changed and are in force, as `check` prints them; one that is gone has no value.
    pub changed: Vec<String>,
    /// The settings that have changed and need a restart.
    pub needs_restart: Vec<String>,
    /// What `check` warns of in it.
    pub warnings: Vec<String>,
    /// The keys.
    pub keys: KeyCounts,
}

impl Gateway {
    /// Applies a new configuration, or reports why not and keeps the old one entirely. Requests in progress keep
    /// the configuration that they began with.
    ///
    /// # Errors
    /// Every fault of the new configuration.
    pub fn reload(&mut self, config: Result<Config, Vec<Fault>>) -> Result<Reloaded, Vec<Fault>> {
        let taken = config.and_then(|mut config| {
            if self.config.keeps_window() {
                config.window = self.config.window;
            }
            // Only a restart changes these, and the start may have lowered them.
            config.capacity = self.config.capacity;
            // Until the reload is taken, no change of the key files is.
            let mut watched = self.keys.watched();
            let _changing = self.current.changing();
            let old = self.current.load_full();
            let (workers, clock) = (self.workers.len(), &self.process.clock);
            let mut generation = assemble::generation(&mut config, workers, clock, Some(&old))?;
            let keeps_keys = self.reads_a_table() || config.key_table.is_some();
            if keeps_keys {
                // Where the keys come from is chosen at the start.
                (generation.directory, generation.keys) = (old.directory.clone(), old.keys.clone());
            } else {
                self.process.key_uses.collect(&old.directory);
                generation.directory.inherit(&old.directory);
                generation.directory.remember_uses(&self.process.key_uses.all());
            }
            let keys = KeyCounts::new(&old.directory, &generation.directory);
            let names: Vec<String> = generation.servers.healthy().map(|(name, _)| name.to_owned()).collect();
            assemble::recount(&self.config, &config, generation.budgets, &self.process)?;
            // This is the last step that can fail: after it everything is applied.
            let listeners = self.entries.plan(&config).map_err(|error| match error {
                StartError::Config(faults) => faults,
                StartError::Listen(key, error) => vec![Fault::new(&config.file, None, key, error.to_string())],
                error => vec![Fault::new(&config.file, None, "listener", error.to_string())],
            })?;
            let needs_restart = self.config.needs_restart(&config);
            let changed = self.config.changed(&config, &needs_restart);
            self.process.metrics.reloaded(Some(&config.hash()));
            super::keys::put_on_record(&self.process.record, Some(&old), &mut generation, "reload");
            self.current.store(generation);
            if !keeps_keys {
                watched.reloaded(&mut config, &self.process);
            }
            self.entries.carry_out(listeners, |worker, order| self.workers.order(worker, order));
            self.certificates.tell_expiries(&self.entries, &self.current.load().servers, &self.process.metrics);
            let gone = old.servers.healthy().filter(|(name, _)| !names.iter().any(|new| new == name));
            gone.for_each(|(name, _)| self.process.metrics.upstream_gone(name));
            self.status.reloaded(&config);
            #[cfg(feature = "postgres")]
            if let Some(key_watch) = &self.key_watch {
                key_watch.look(config.key_table.as_ref().map(|table| table.seal.clone()));
            }
            self.config = config;
            Ok(Reloaded { changed, needs_restart, warnings: self.warnings(), keys })
        });
        if taken.is_err() {
            self.process.metrics.reloaded(None);
        }
        taken
    }
}
