//! The fuzz targets (`fuzz/`). Each is one function that gives any bytes to a strict parser and checks the result.
//! The checks are next to the parsers.
//!
//! Built only for fuzzing and for tests. The tests here run each target on every file of its corpus, so that `make
//! test` checks again what fuzzing found, without a nightly compiler.

macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident = $check:path;)*) => {
        $($(#[$doc])*
        ///
        /// # Panics
        /// If the check fails.
        pub fn $name(bytes: &[u8]) {
            $check(bytes);
        })*

        #[cfg(test)]
        mod corpora {
            $(#[test]
            fn $name() {
                super::tests::replay(stringify!($name), super::$name);
            })*

            pub(super) const TARGETS: &[&str] = &[$(stringify!($name)),*];
        }
    };
}

targets! {
    /// A response of the service.
    answer = crate::http::h1::fuzz_responses;
    /// The lines of an answer on the control socket.
    control_answer = crate::control::fuzz::answer;
    /// A question on the control socket.
    control_question = crate::control::fuzz::question;
    /// The counts beside the record.
    counts = crate::state::fuzz;
    /// A date in a header.
    date = crate::credential::fuzz::date;
    /// The addresses in `X-Forwarded-For`.
    forwarded = crate::listen::fuzz::forwarded;
    /// The messages of a connection.
    framing = crate::http::h1::fuzz_requests;
    /// The file of the freeze state.
    freeze = crate::safeguard::fuzz;
    /// The value of an `Authorization` header.
    header = crate::credential::fuzz::header;
    /// A segment of the replay journal.
    journal_segment = crate::replay::fuzz_journal::segment;
    /// The state of the replay journal.
    journal_state = crate::replay::fuzz_journal::state;
    /// The witness of the replay journal.
    journal_witness = crate::replay::fuzz_journal::witness;
    /// The file of keys.
    keys = crate::config::fuzz_keys;
    /// A snapshot of the keys of a database.
    key_snapshot = crate::key_snapshot::fuzz::fuzz;
    /// The answer to a look-up.
    lookup = crate::lookup::fuzz::answer;
    /// A PROXY header.
    proxy = crate::listen::fuzz::proxy;
    /// The files of the record.
    record = crate::audit::fuzz::fuzz;
    /// An answer of Redis.
    redis = crate::replay::fuzz_redis;
    /// The answer that another gateway stored for repeats.
    repeat = crate::repeats::fuzz::shared;
    /// A sealed secret.
    seal = crate::seal::fuzz::fuzz;
    /// The trace context that a proxy sends.
    trace = crate::trace::fuzz::fuzz;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::corpora::TARGETS;

    /// The most bytes of one file of a corpus, and the most files.
    const MAX_FILE: u64 = 4096;
    const MAX_FILES: usize = 256;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub(super) fn replay(target: &str, check: fn(&[u8])) {
        let corpus = folder().join("corpus").join(target);
        let mut failed = Vec::new();
        for name in names(&corpus) {
            let bytes = std::fs::read(corpus.join(&name)).unwrap();
            if std::panic::catch_unwind(|| check(&bytes)).is_err() {
                failed.push(name);
            }
        }
        assert!(failed.is_empty(), "fuzz/corpus/{target}: {}", failed.join(", "));
    }

    #[test]
    fn every_target_has_a_program_and_a_small_corpus() {
        let targets: BTreeSet<String> = TARGETS.iter().map(|&name| name.to_owned()).collect();
        let programs = names(&folder().join("fuzz_targets"));
        let programs: BTreeSet<_> = programs.iter().map(|name| name.trim_end_matches(".rs").to_owned()).collect();
        assert_eq!(programs, targets);
        assert_eq!(names(&folder().join("corpus")), targets);
        let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
        for target in targets {
            let program = std::fs::read_to_string(folder().join(format!("fuzz_targets/{target}.rs"))).unwrap();
            assert!(program.contains(&format!("saltgate::fuzz::{target}(bytes)")), "{target}: {program}");
            assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target} is not in fuzz/Cargo.toml");
            let corpus = folder().join("corpus").join(&target);
            let files = names(&corpus);
            assert!((1..=MAX_FILES).contains(&files.len()), "{target}: {} files", files.len());
            for file in files {
                let length = std::fs::metadata(corpus.join(&file)).unwrap().len();
                assert!(length <= MAX_FILE, "{target}: {file}: {length} bytes");
            }
        }
    }
}
