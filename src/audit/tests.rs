//! Tests of the record as a whole: durability, order, full disks, and files that others change.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

pub(super) fn entry(id: &str) -> RecordEntry {
    RecordEntry {
        request_id: id.into(),
        api_key: "KEY".into(),
        account: "account-1".into(),
        member: "member-1".into(),
        role: Some("MEMBER"),
        client: Some("127.0.0.1".into()),
        route: Some("/s/{id}".into()),
        segment: Some("S\n1".into()),
        creator: None,
        name: Some("n".repeat(300)),
        print: None,
        key_set: None,
        upstream_status: None,
        started: Duration::ZERO,
    }
}

pub(super) fn paths(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths
}

fn lines(directory: &Path) -> Vec<Value> {
    let text: String = paths(directory).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn open_in(directory: &Path, settings: RecordSettings) -> Record {
    Record::open_in(directory, settings, Clock::system(), |_| {}).unwrap()
}

/// Waits until everything so far is written.
async fn written(record: &Record) {
    record.open(entry("last")).await.unwrap().close(Outcome::NotSent, "ok").await;
}

#[tokio::test]
async fn an_intent_is_on_disk_when_open_returns_and_an_outcome_when_the_record_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let record = open_in(dir.path(), RecordSettings::default());
    let first = record.open(entry("1")).await.unwrap();
    assert_eq!(lines(dir.path()).len(), 2, "header and intent are there before anything is sent");
    let second = record.open(entry("2")).await.unwrap();
    first.close(Outcome::Deleted(200), "ok").await;
    drop(second);
    record.refused(&entry("3"), "not_creator", Some(401));
    drop(record);
    let lines = lines(dir.path());
    let shown = |id: &str| -> Vec<String> {
        let of = lines.iter().filter(|line| line["request_id"] == id);
        of.map(|l| format!("{} {}", l["kind"].as_str().unwrap(), l["outcome"].as_str().unwrap_or("-"))).collect()
    };
    assert_eq!(shown("1"), ["intent -", "outcome deleted"]);
    assert_eq!(shown("2"), ["intent -", "outcome unknown"], "a dropped intent is an unknown outcome");
    assert_eq!(shown("3"), ["refused -"]);
    assert_eq!(lines.last().unwrap()["kind"], "closed");
    assert_eq!(lines[1]["name"].as_str().unwrap().len(), MAX_NAME);
}

#[tokio::test]
async fn an_outcome_is_written_when_close_returns() {
    let dir = tempfile::tempdir().unwrap();
    let record = open_in(dir.path(), RecordSettings::default());
    // Repeated, because without waiting the line would be late only most of the time.
    for n in 1..=50 {
        record.open(entry("1")).await.unwrap().close(Outcome::Deleted(200), "ok").await;
        assert_eq!(lines(dir.path()).iter().filter(|line| line["kind"] == "outcome").count(), n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_of_all_writers_form_one_chain_and_are_readable_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let record =
        open_in(dir.path(), RecordSettings { rotate_size: 16 << 10, sync: Sync::Os, ..RecordSettings::default() });
    let deletions = (0..8).map(|who| {
        let (record, path) = (record.clone(), dir.path().to_owned());
        tokio::spawn(async move {
            for n in 0..25 {
                let id = format!("{who}-{n}");
                let mark = format!("\"request_id\":\"{id}\"");
                // Half a line that another thread is writing may be visible.
                let text =
                    || paths(&path).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect::<String>();
                let shown = || text().lines().filter(|line| line.contains(&mark) && line.ends_with('}')).count();
                let intent = record.open(entry(&id)).await.unwrap();
                assert_eq!(shown(), 1, "{id}: the intent is there when it is open");
                intent.close(Outcome::Deleted(200), "ok").await;
                assert_eq!(shown(), 2, "{id}: the outcome is there when it is closed");
            }
        })
    });
    for deletion in deletions.collect::<Vec<_>>() {
        deletion.await.unwrap();
    }
    drop(record);
    assert_eq!(verify(dir.path(), &[], Retention::Forever).unwrap().faults, []);
    assert_eq!(lines(dir.path()).iter().filter(|line| line["kind"] == "outcome").count(), 8 * 25);
    assert!(paths(dir.path()).len() > 3, "it turned to new files meanwhile");
}

#[test]
fn an_intent_dropped_by_its_runtime_is_recorded_as_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let record = open_in(dir.path(), RecordSettings { sync: Sync::Os, ..RecordSettings::default() });
    runtime.block_on(async {
        let intent = record.open(entry("1")).await.unwrap();
        tokio::spawn(async move {
            let _open = intent;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
    });
    // The runtime is gone, so nothing can be spawned; the line is written all the same.
    drop(runtime);
    drop(record);
    let lines = lines(dir.path());
    assert_eq!((&lines[2]["kind"], &lines[2]["outcome"]), (&"outcome".into(), &"unknown".into()));
}

#[test]
fn a_file_in_place_of_the_directory_is_reported() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Record::open_in(file.path(), RecordSettings::default(), Clock::system(), |_| {}).err().unwrap();
    assert!(error.to_string().contains("directory"), "{error}");
}

/// How many syncs a number of deletions take, concurrently or one by one, if each sync takes 2 ms.
async fn syncs(deletions: usize, at_once: bool) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let sync = move |file: &File| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        file.sync_data()
    };
    let disk = Disk { sync: Box::new(sync), on_sync: Box::new(|_| {}) };
    let record = Record::open_on(disk, dir.path(), RecordSettings::default(), Clock::system()).unwrap();
    let delete = |n: usize| {
        let record = record.clone();
        async move {
            let _ = record.open(entry(&n.to_string())).await.unwrap().close(Outcome::Deleted(200), "ok").await;
        }
    };
    if at_once {
        let all: Vec<_> = (0..deletions).map(|n| tokio::spawn(delete(n))).collect();
        for one in all {
            one.await.unwrap();
        }
    } else {
        for n in 0..deletions {
            delete(n).await;
        }
    }
    assert_eq!(lines(dir.path()).iter().filter(|line| line["kind"] == "outcome").count(), deletions);
    count.load(Ordering::SeqCst)
}

#[tokio::test]
async fn concurrent_deletions_share_syncs() {
    let (one_by_one, at_once) = (syncs(64, false).await, syncs(64, true).await);
    assert_eq!(one_by_one, 128);
    assert!(at_once * 10 <= one_by_one, "{at_once} syncs instead of {one_by_one}");
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_sent_and_kept_lines_are_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_broken = broken.clone();
    let sync = move |file: &File| match is_broken.load(Ordering::SeqCst) {
        true => Err(io::Error::from(io::ErrorKind::StorageFull)),
        false => file.sync_data(),
    };
    let disk = Disk { sync: Box::new(sync), on_sync: Box::new(|_| {}) };
    let record = Record::open_on(disk, dir.path(), RecordSettings::default(), Clock::system()).unwrap();
    let intent = record.open(entry("1")).await.unwrap();
    broken.store(true, Ordering::SeqCst);
    intent.close(Outcome::Deleted(200), "ok").await;
    assert!(record.open(entry("2")).await.is_err());
    assert!(!record.is_ready());
    assert_eq!(verify(dir.path(), &[], Retention::Forever).unwrap().lines, 2, "a failed write is truncated");
    broken.store(false, Ordering::SeqCst);
    while !record.is_ready() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    written(&record).await;
    let lines = lines(dir.path());
    assert!(lines.iter().any(|line| line["request_id"] == "1" && line["outcome"] == "deleted"), "{lines:?}");
    assert!(!lines.iter().any(|line| line["request_id"] == "2"), "it was not sent");
    drop(record);
    assert_eq!(verify(dir.path(), &[], Retention::Forever).unwrap().faults, []);
}

#[test]
fn counts_are_written_once_a_minute_and_a_new_file_begins_once_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hands) = Clock::manual(std::time::UNIX_EPOCH);
    let record = Record::open_in(dir.path(), RecordSettings::default(), clock, |_| {}).unwrap();
    let counted = || lines(dir.path()).iter().filter(|line| line["kind"] == "counted").count();
    let until = |what: &dyn Fn() -> bool| {
        (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            what()
        })
    };
    record.count("unknown_key", "1", Some(IpAddr::from([127, 0, 0, 1])), None, None);
    hands.advance(Duration::from_secs(61));
    assert!(until(&|| counted() == 1));
    hands.advance(Duration::from_secs(61));
    record.writer.as_ref().unwrap().tick();
    assert_eq!(counted(), 1, "nothing was counted, and nothing is said");
    hands.advance(Duration::from_secs(86_400));
    assert!(until(&|| paths(dir.path()).len() == 2));
    hands.advance(Duration::from_secs(86_400));
    record.writer.as_ref().unwrap().tick();
    assert_eq!(paths(dir.path()).len(), 2, "a file with nothing in it is not old");
    drop(record);
    assert_eq!(verify(dir.path(), &[], Retention::Forever).unwrap().faults, []);
}

/// A closed record with several files.
pub(super) fn sample(directory: &Path) {
    let settings = RecordSettings { rotate_size: 4096, sync: Sync::Os, ..RecordSettings::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let record = open_in(directory, settings);
        for n in 0..12 {
            record.open(entry(&n.to_string())).await.unwrap().close(Outcome::Deleted(200), "ok").await;
        }
    });
}

#[test]
fn files_are_chained_and_sealed_and_may_be_compressed_or_removed_by_retention() {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let files = paths(dir.path());
    assert!(files.len() > 3, "{files:?}");
    for file in &files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o400);
        assert!(file.metadata().unwrap().len() < 4096 + 2048);
    }
    let head = heads(dir.path(), &mut Unread::default()).unwrap();
    let sound = |retention| verify(dir.path(), &head, retention).unwrap();
    assert_eq!(sound(Retention::Forever).faults, []);
    let compressed = format!("{}.gz", files[1].display());
    let mut gz = flate2::write::GzEncoder::new(File::create(compressed).unwrap(), flate2::Compression::fast());
    gz.write_all(&std::fs::read(&files[1]).unwrap()).unwrap();
    gz.finish().unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    assert_eq!(sound(Retention::Forever).faults, []);
    std::fs::remove_file(&files[0]).unwrap();
    assert_eq!(sound(Retention::Unknown).faults, []);
    assert_eq!(sound(Retention::Forever).faults.len(), 1);
    let now = Clock::system().now();
    let hour = Duration::from_secs(3600);
    assert_eq!(sound(Retention::For(hour, now)).faults.len(), 1, "it went before its time");
    assert_eq!(sound(Retention::For(hour, now + 2 * hour)).faults, []);
    // A process that started right after it.
    let (clock, hands) = Clock::manual(now);
    let mut cleanup = space::Cleanup::new(hour, &clock);
    assert_eq!(cleanup.forget(dir.path(), ("", 0), |_, _| true), 0);
    let left = paths(dir.path()).len();
    hands.advance(3 * hour);
    assert_eq!(cleanup.forget(dir.path(), ("", 0), |_, _| true), left);
    assert_eq!(sound(Retention::Unknown).faults.len(), 1, "the head's process is gone");
}

#[test]
fn a_newer_format_is_refused_with_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = files::path(dir.path(), "0123456789abcdef", 1);
    std::fs::write(&path, "{\"n\":1,\"kind\":\"header\",\"format\":2}\n").unwrap();
    let shown = verify(dir.path(), &[], Retention::Unknown).unwrap().faults[0].to_string();
    assert!(shown.contains("format 2"), "{shown}");
    let unread = &mut Unread::default();
    let errors =
        [heads(dir.path(), unread).err(), unknown(dir.path(), unread).err(), read(dir.path(), unread, |_| true).err()];
    for error in errors {
        let shown = error.unwrap().to_string();
        assert!(shown.contains("format 2") && shown.contains("0123456789abcdef"), "{shown}");
    }
}

#[tokio::test]
async fn a_line_that_readers_would_refuse_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let record = open_in(dir.path(), RecordSettings::default());
    let with = |id: &str, length: usize| RecordEntry { creator: Some("c".repeat(length)), ..entry(id) };
    for (id, length) in [("far too long", 2 << 20), ("its outcome would be too long", (1 << 20) - 1500)] {
        assert!(record.open(with(id, length)).await.is_err(), "{id}");
        assert!(record.is_ready(), "{id}: nothing is wrong with the disk");
    }
    record
        .open(with("long", (1 << 20) - 4000))
        .await
        .unwrap()
        .close(Outcome::UnknownAfter(200), "outcome_unknown")
        .await;
    record.refused(&with("refused", 3 << 20), "not_creator", None);
    drop(record);
    let lines = lines(dir.path());
    let shown: Vec<_> = lines.iter().filter_map(|line| line["request_id"].as_str()).collect();
    assert_eq!(shown, ["long", "long", "refused"]);
    assert_eq!(lines[3]["creator"].as_str().unwrap().len(), 256, "it is not lost, but cut");
    assert!(lines[3]["cut"].is_string());
    assert_eq!(verify(dir.path(), &[], Retention::Forever).unwrap().faults, []);
    let mut unread = Unread::default();
    read(dir.path(), &mut unread, |_| true).unwrap();
    assert_eq!(unread.count, 0, "{unread:?}");
}

#[test]
fn a_head_reveals_a_truncated_or_rewritten_chain() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let kept = heads(dir.path(), &mut Unread::default()).unwrap();
    let files = paths(dir.path());
    let last = files.last().unwrap();
    std::fs::remove_file(last).unwrap();
    let report = verify(dir.path(), &kept, Retention::Forever).unwrap();
    assert_eq!(report.faults.len(), 1, "{report:?}");
    assert_eq!(verify(dir.path(), &[], Retention::Forever).unwrap().faults, [], "without a head nothing can tell");
    let before = &files[files.len() - 2];
    let whole = std::fs::read(before).unwrap();
    let kept = heads(dir.path(), &mut Unread::default()).unwrap();
    std::fs::remove_file(before).unwrap();
    std::fs::write(before, &whole[..whole.len() - 10]).unwrap();
    let report = verify(dir.path(), &kept, Retention::Forever).unwrap();
    assert!(report.faults[0].what.contains("cut off"), "{report:?}");
    assert!(report.notes[0].what.contains("is incomplete"), "{report:?}");
}

#[test]
fn an_intent_without_an_outcome_is_unknown_once_its_process_is_gone_until_it_is_reconciled() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let record = open_in(dir.path(), RecordSettings::default());
    runtime.block_on(async {
        drop(record.open(entry("dropped")).await.unwrap());
        std::mem::forget(record.open(entry("open")).await.unwrap());
        written(&record).await;
    });
    let ids = || -> Vec<String> {
        unknown(dir.path(), &mut Unread::default())
            .unwrap()
            .iter()
            .map(|line| line["request_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(), ["dropped"], "the other may end yet");
    // A copy under the name of another process, which holds no lock.
    let [path] = &paths(dir.path())[..] else { panic!() };
    let text = std::fs::read_to_string(path).unwrap();
    let other = files::path(dir.path(), "0123456789abcdef", 1);
    std::fs::write(other, text.replace("\"dropped\"", "\"gone-1\"").replace("\"open\"", "\"gone-2\"")).unwrap();
    assert_eq!(abandoned(dir.path()).unwrap(), (1, true));
    let size = path.metadata().unwrap().len();
    assert_eq!(query::look(dir.path(), size - 100, 2 * size).unwrap(), (1, false), "as far as it was looked");
    assert_eq!(query::look(dir.path(), 2 * size, 900).unwrap(), (0, false), "the tail alone has no open intent");
    let mut all = ids();
    all.sort();
    assert_eq!(all, ["dropped", "gone-1", "gone-2"]);
    let intents = unknown(dir.path(), &mut Unread::default()).unwrap();
    let closing = open_in(dir.path(), RecordSettings { writer: "reconcile", ..RecordSettings::default() });
    for intent in &intents {
        runtime.block_on(closing.reconciled(intent, "deleted")).unwrap();
    }
    assert_eq!(ids().len(), 0);
    drop(closing);
    assert_eq!(abandoned(dir.path()).unwrap(), (0, true));
}

/// Changes to a record that its writer does not know of.
#[derive(Clone, Debug)]
enum Edit {
    Flip { at: usize, bit: u8 },
    Remove,
    Swap,
    Repeat,
}

fn edits() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<usize>(), 0_u8..7).prop_map(|(at, bit)| Edit::Flip { at, bit }),
        Just(Edit::Remove),
        Just(Edit::Swap),
        Just(Edit::Repeat),
    ]
}

fn sampled() -> &'static Path {
    static SAMPLE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    SAMPLE
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            sample(dir.path());
            dir
        })
        .path()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any change of one line is reported at that line, or at the line that is now in its position.
    #[test]
    fn every_changed_line_is_reported(edit in edits(), file in any::<prop::sample::Index>(), line in any::<prop::sample::Index>()) {
        let kept = heads(sampled(), &mut Unread::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let files = paths(sampled());
        for file in &files {
            std::fs::copy(file, dir.path().join(file.file_name().unwrap())).unwrap();
        }
        let file = dir.path().join(file.get(&files).file_name().unwrap());
        let text = std::fs::read(&file).unwrap();
        let mut lines: Vec<Vec<u8>> = text.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        let count = lines.len();
        let at = line.index(lines.len());
        match edit {
            Edit::Flip { at: byte, bit } => {
                let byte = byte % (lines[at].len() - 1);
                lines[at][byte] ^= 1 << bit;
            }
            Edit::Remove => drop(lines.remove(at)),
            Edit::Swap if at + 1 < lines.len() => lines.swap(at, at + 1),
            Edit::Swap => lines.swap(0, at),
            Edit::Repeat => {
                let line = lines[at].clone();
                lines.insert(at, line);
            }
        }
        let edited = lines.concat();
        prop_assume!(edited != text);
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, edited).unwrap();
        let report = verify(dir.path(), &kept, Retention::Forever).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let exact = |line: u64| report.faults.iter().any(|fault| fault.file == name && fault.line.is_none_or(|l| l == line));
        let here = at as u64 + 1;
        let named = match edit {
            Edit::Flip { .. } => exact(here),
            // At its position; for the last line of a file, where the chain continues or at the head.
            Edit::Remove => exact(here) || at + 1 == count && !report.faults.is_empty(),
            Edit::Swap if at + 1 < count => exact(here) && exact(here + 1),
            Edit::Swap => exact(1) && exact(here),
            Edit::Repeat => exact(here + 1),
        };
        prop_assert!(named, "line {} of {name}: {report:?}", at + 1);
        prop_assert!(report.faults.len() <= 5, "{report:?}");
    }

    /// Any number of changed lines are reported, each at itself or at the line before it, which it no longer confirms.
    #[test]
    fn each_of_several_changed_lines_is_reported(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<usize>(), 0_u8..7), 1..5)) {
        let files = paths(sampled());
        let dir = tempfile::tempdir().unwrap();
        for file in &files {
            std::fs::copy(file, dir.path().join(file.file_name().unwrap())).unwrap();
        }
        let file = dir.path().join(files[1].file_name().unwrap());
        let text = std::fs::read(&file).unwrap();
        let before: Vec<Vec<u8>> = text.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        let mut lines = before.clone();
        for (line, byte, bit) in flips {
            let line = &mut lines[line.index(before.len())];
            let byte = byte % (line.len() - 1);
            line[byte] ^= 1 << bit;
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, lines.concat()).unwrap();
        let report = verify(dir.path(), &[], Retention::Forever).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        for (at, _) in lines.iter().zip(&before).enumerate().filter(|(_, (now, was))| now != was) {
            let named = report.faults.iter().any(|fault| fault.file == name && fault.line.is_none_or(|line| line == at as u64 + 1));
            prop_assert!(named, "line {}: {report:?}", at + 1);
        }
    }
}
