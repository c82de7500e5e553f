//! What an adversary with the disk or the clock can do to a snapshot.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::clock::{Clock, ManualTime};
use crate::credential::Secret;
use crate::directory::KeyEntry;
use crate::policy::{Owner, Role};
use crate::seal::{Kek, KeyRing};

const MINUTE: Duration = Duration::from_secs(60);
const MAX_STALE: Duration = Duration::from_secs(15 * 60);
const SECRET: &[u8] = b"the secret of a key in a snapshot";

struct Place {
    dir: tempfile::TempDir,
    clock: Clock,
    time: ManualTime,
}

impl Place {
    fn new() -> Self {
        let (clock, time) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        time.advance(Duration::from_secs(3600));
        Self { dir: tempfile::tempdir().unwrap(), clock, time }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("state/keys.snapshot")
    }

    fn confirmed_path(&self) -> PathBuf {
        self.dir.path().join("state/keys.snapshot.confirmed")
    }

    /// The snapshot as a gateway with this sealing key has it, of this database.
    fn of(&self, kek: u8, database: &str) -> SnapshotFile {
        let ring = KeyRing::new(vec![("k".into(), Kek::of_file(&[kek; 32]).unwrap())]);
        let record = self.dir.path().join("record");
        let path = self.path();
        SnapshotFile::new(path, Arc::new(ring), database.into(), MAX_STALE, self.clock.clone(), Some(&record))
    }

    fn file(&self) -> SnapshotFile {
        self.of(7, "a database")
    }

    fn now(&self) -> ConfirmedAt {
        ConfirmedAt::now(&self.clock)
    }

    fn write(&self, file: &mut SnapshotFile, version: &str) {
        let facts = SetFacts { version: version.into(), digest: "d".into(), at_fault: 2 };
        file.write(SnapshotFile::content(&entries(version)), &facts, &self.now()).unwrap();
    }

    /// Why a start does not use it; nothing if it does.
    fn refused(&self) -> String {
        self.file().read().map_or_else(|error| error.to_string(), |_| String::new())
    }
}

fn entries(member: &str) -> Vec<KeyEntry> {
    let owner = Owner { account: "a".into(), member: member.into() };
    let secrets = vec![Secret::new(SECRET).unwrap(), Secret::new(&[7; 256]).unwrap()];
    let expires = Some(UNIX_EPOCH + Duration::new(1_900_000_000, 7));
    let one = KeyEntry {
        api_key: "ONE".into(),
        secrets,
        owner: owner.clone(),
        role: Some(Role::Owner),
        active: false,
        expires,
        secret_1_expires: Some(UNIX_EPOCH + Duration::new(1_800_000_000, 9)),
        line: 1,
    };
    let secrets = vec![Secret::new(b"0123456789abcdef").unwrap()];
    let two = KeyEntry {
        api_key: "TWO".into(),
        secrets,
        owner,
        role: None,
        active: true,
        expires: None,
        secret_1_expires: None,
        line: 2,
    };
    vec![one, two]
}

fn told(entries: &[KeyEntry]) -> String {
    let secrets: Vec<Vec<&[u8]>> = entries.iter().map(|e| e.secrets.iter().map(Secret::expose).collect()).collect();
    format!("{entries:?} {secrets:?}")
}

fn copy(from: &Path, to: &Path) {
    std::fs::write(to, std::fs::read(from).unwrap()).unwrap();
}

#[test]
fn what_was_written_is_read_again_and_no_secret_is_in_it() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    assert_eq!(place.refused(), "there is none");
    let mut file = place.file();
    place.write(&mut file, "v1");
    place.time.advance(MINUTE);
    let kept = place.file().read().unwrap();
    assert_eq!(told(&kept.entries), told(&entries("v1")));
    assert_eq!(kept.facts, SetFacts { version: "v1".into(), digest: "d".into(), at_fault: 2 });
    assert_eq!(kept.age, MINUTE);
    let bytes = std::fs::read(place.path()).unwrap();
    assert!(!bytes.windows(8).any(|window| SECRET.starts_with(window)), "sealed");
    assert_eq!(place.path().metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(place.path().parent().unwrap().metadata().unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn a_confirmation_makes_it_younger_and_is_not_written_at_every_look() {
    let place = Place::new();
    let mut file = place.file();
    place.write(&mut file, "v1");
    let mut writes = 0;
    for _ in 0..20 * 60 {
        place.time.advance(Duration::from_secs(1));
        writes += u32::from(file.confirm(&place.now()).unwrap());
    }
    assert_eq!(writes, 20 * 60 / 30, "each half minute for a max_stale of 15 minutes");
    assert_eq!(place.file().read().unwrap().age, Duration::ZERO);
    // Without the confirmation only the time of the keys is left.
    std::fs::remove_file(place.confirmed_path()).unwrap();
    assert!(place.refused().contains("1200 s ago"), "{}", place.refused());
}

#[test]
fn it_holds_until_max_stale_by_whichever_clock_says_more() {
    // Seconds by the wall clock, and by the elapsed clock, since it was confirmed; whether the machine was booted.
    let limit = i64::try_from(MAX_STALE.as_secs()).unwrap();
    let rows: [(i64, u64, bool, &str); 9] = [
        (limit, limit as u64, false, ""),
        (limit + 1, limit as u64 + 1, false, "901 s ago"),
        // The clock was set back.
        (0, limit as u64 + 1, false, "901 s ago"),
        (60, 60, false, ""),
        (-1, 60, false, "in the future"),
        (-1, 60, true, "in the future"),
        // It was set forward.
        (limit + 1, 1, false, "901 s ago"),
        // After a boot there is only the wall clock.
        (limit, 0, true, ""),
        (limit + 1, 0, true, "901 s ago"),
    ];
    for (wall, elapsed, booted, expected) in rows {
        for confirmed in [false, true] {
            let place = Place::new();
            let mut file = place.file();
            place.write(&mut file, "v1");
            if confirmed {
                place.time.advance(MINUTE);
                assert!(file.confirm(&place.now()).unwrap());
            }
            let at = place.clock.now();
            place.time.advance(Duration::from_secs(elapsed));
            let by = Duration::from_secs(wall.unsigned_abs());
            place.time.set_wall(if wall < 0 { at - by } else { at + by });
            if booted {
                place.time.reboot();
            }
            let refused = place.refused();
            let fits = if expected.is_empty() { refused.is_empty() } else { refused.contains(expected) };
            assert!(fits, "{wall} {elapsed} {booted} {confirmed}: {refused}");
        }
    }
}

#[test]
fn no_changed_byte_and_no_truncated_file_opens() {
    let place = Place::new();
    let mut file = place.file();
    place.write(&mut file, "v1");
    place.time.advance(MINUTE);
    file.confirm(&place.now()).unwrap();
    let written = std::fs::read(place.path()).unwrap();
    for at in 0..written.len() {
        std::fs::write(place.path(), &written[..at]).unwrap();
        assert!(!place.refused().is_empty(), "cut to {at} bytes");
        let mut changed = written.clone();
        changed[at] ^= 1;
        std::fs::write(place.path(), &changed).unwrap();
        assert!(!place.refused().is_empty(), "byte {at}");
    }
    std::fs::write(place.path(), [&written[..], b"\0"].concat()).unwrap();
    assert!(!place.refused().is_empty(), "a byte more");
    std::fs::write(place.path(), &written).unwrap();
    // A damaged confirmation confirms nothing; the keys are as old as they are.
    let confirmation = std::fs::read(place.confirmed_path()).unwrap();
    for at in 0..confirmation.len() {
        let mut changed = confirmation.clone();
        changed[at] ^= 1;
        std::fs::write(place.confirmed_path(), &changed).unwrap();
        assert_eq!(place.file().read().unwrap().age, MINUTE, "byte {at}");
    }
}

#[test]
fn a_file_of_another_key_or_database_is_refused_and_says_so() {
    let place = Place::new();
    let mut file = place.file();
    place.write(&mut file, "v1");
    let why = |mut file: SnapshotFile| file.read().map(drop).unwrap_err().to_string();
    assert!(why(place.of(8, "a database")).contains("does not open by the key \"k\""));
    assert!(why(place.of(7, "another database")).contains("of another database"));
    let none =
        SnapshotFile::new(place.path(), Arc::default(), "a database".into(), MAX_STALE, place.clock.clone(), None);
    assert!(why(none).contains("[seal] names no keys"));
    // Neither file can take the place of the other.
    place.time.advance(MINUTE);
    file.confirm(&place.now()).unwrap();
    let keys = std::fs::read(place.path()).unwrap();
    copy(&place.confirmed_path(), &place.path());
    assert!(place.refused().contains("damaged"), "{}", place.refused());
    std::fs::write(place.confirmed_path(), &keys).unwrap();
    std::fs::write(place.path(), &keys).unwrap();
    assert_eq!(place.file().read().unwrap().age, MINUTE);
}

#[test]
fn an_older_copy_is_refused_and_no_confirmation_makes_it_younger() {
    let place = Place::new();
    let (mut file, older) = (place.file(), place.dir.path().join("older"));
    place.write(&mut file, "v1");
    copy(&place.path(), &older);
    place.time.advance(MINUTE);
    place.write(&mut file, "v2");
    place.time.advance(MINUTE);
    file.confirm(&place.now()).unwrap();
    let newer = std::fs::read(place.path()).unwrap();
    copy(&older, &place.path());
    assert!(place.refused().contains("number 1, and the record's folder says 2"), "{}", place.refused());
    // Together with an older copy of the record's folder it holds, but no longer than it would have then.
    std::fs::remove_dir_all(place.dir.path().join("record")).unwrap();
    assert_eq!(place.file().read().unwrap().age, 2 * MINUTE, "not confirmed by what confirms the newer one");
    std::fs::write(place.path(), &newer).unwrap();
    // It is one ahead, as after a crash between the two writes.
    assert_eq!(place.file().read().unwrap().age, Duration::ZERO);
    std::fs::remove_dir_all(place.dir.path().join("record")).unwrap();
    assert!(place.refused().contains("one of them is an older copy"), "{}", place.refused());
}

#[test]
fn keys_that_cannot_be_written_leave_no_earlier_ones_behind_and_are_written_later() {
    let place = Place::new();
    let mut file = place.file();
    place.write(&mut file, "v1");
    // A folder of this name makes the temporary file impossible.
    let blocked = place.path().with_file_name("keys.snapshot.new");
    std::fs::create_dir(&blocked).unwrap();
    let facts = SetFacts { version: "v2".into(), digest: "d".into(), at_fault: 0 };
    let failed = file.write(SnapshotFile::content(&entries("v2")), &facts, &place.now()).unwrap_err().to_string();
    assert!(failed.contains("cannot be written"), "{failed}");
    assert_eq!(place.refused(), "there is none");
    place.time.advance(MINUTE);
    assert!(file.confirm(&place.now()).is_err());
    std::fs::remove_dir(&blocked).unwrap();
    place.time.advance(MINUTE);
    assert!(file.confirm(&place.now()).unwrap());
    let kept = place.file().read().unwrap();
    assert_eq!((told(&kept.entries), kept.age), (told(&entries("v2")), Duration::ZERO));
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let place = Place::new();
    std::fs::create_dir_all(place.path()).unwrap();
    assert!(place.refused().contains("is not a file"));
    std::fs::remove_dir(place.path()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(place.path()).status().unwrap().success());
    assert!(place.refused().contains("is not a file"));
}
