//! Tests of verification: damaged, removed and misnamed files, and heads.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audit::chain;
use crate::audit::files;
use crate::audit::tests::{paths, sample};
use crate::audit::{
    ChainHead, Retention, Unread, abandoned, heads, intents_since, read, unknown, verify, without_head,
};
use crate::clock::{self, Clock};

/// A record with a line that is too long, as an earlier build could write it, and more lines after it.
fn with_a_long_line(directory: &Path) -> PathBuf {
    let path = files::path(directory, "0123456789abcdef", 1);
    let (mut link, mut bytes) = (chain::Link::default(), Vec::new());
    let now = clock::rfc3339(Clock::system().now());
    let header = format!(
        r#"{{"kind":"header","format":1,"instance":"0123456789abcdef","file":1,"time":"{now}","writer":"serve"}}"#
    );
    link.append(header.as_bytes(), &mut bytes);
    for (id, length) in [("1", 10), ("2", 3 << 20), ("3", 10)] {
        let (creator, who) = ("c".repeat(length), r#""api_key":"K","account":"a""#);
        let body = format!(r#"{{"time":"{now}","kind":"intent","request_id":"{id}",{who},"creator":"{creator}"}}"#);
        link.append(body.as_bytes(), &mut bytes);
    }
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn readers_report_a_line_that_is_too_long_and_continue_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = with_a_long_line(dir.path());
    let report = verify(dir.path(), &[], Retention::Forever).unwrap();
    assert_eq!((report.lines, &report.faults[..]), (4, &[][..]), "the chain goes through it");
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let reported = report.notes[0].to_string();
    assert!(reported.starts_with(&format!("{name}:3: is longer than any line")), "{reported}");
    let all = |what: &dyn Fn(&mut Unread) -> usize, count: usize| {
        let mut unread = Unread::default();
        assert_eq!(what(&mut unread), count);
        assert_eq!(unread.count, 1);
        assert!(unread.named[0].contains(&format!("{name}:3: is longer")), "{unread:?}");
    };
    all(&|unread| heads(dir.path(), unread).unwrap()[0].line as usize, 4);
    all(&|unread| unknown(dir.path(), unread).unwrap().len(), 2);
    let lines = std::cell::Cell::new(0);
    let count = |unread: &mut Unread| {
        read(dir.path(), unread, |_| {
            lines.set(lines.get() + 1);
            true
        })
        .unwrap();
        lines.get()
    };
    all(&count, 3);
    let mut counted = 0;
    let unreadable = intents_since(dir.path(), std::time::UNIX_EPOCH, |_, _, _| counted += 1).unwrap();
    assert_eq!((counted, unreadable), (2, 1), "a start that counts a budget goes on, too");
    assert_eq!(abandoned(dir.path()).unwrap(), (2, true));
    // A changed byte in it is reported all the same.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2 << 20] = b'd';
    std::fs::write(&path, bytes).unwrap();
    let report = verify(dir.path(), &[], Retention::Forever).unwrap();
    assert_eq!(report.faults.len(), 1, "{report:?}");
    assert!(report.faults[0].to_string().starts_with(&format!("{name}:3: is changed")), "{report:?}");
}

#[test]
fn readers_report_a_damaged_file_and_continue_after_it() {
    let dir = tempfile::tempdir().unwrap();
    with_a_long_line(dir.path());
    sample(dir.path());
    let file = paths(dir.path()).into_iter().find(|path| path.to_str().unwrap().ends_with("000002.jsonl")).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&std::fs::read(&file).unwrap()).unwrap();
    let gz = gz.finish().unwrap();
    std::fs::remove_file(&file).unwrap();
    let name = format!("{}.gz", file.file_name().unwrap().to_str().unwrap());
    std::fs::write(dir.path().join(&name), &gz[..gz.len() / 2]).unwrap();
    let mut unread = Unread::default();
    let mut last = String::new();
    read(dir.path(), &mut unread, |line| {
        last = line["kind"].as_str().unwrap().to_owned();
        true
    })
    .unwrap();
    assert!(unread.named.iter().any(|what| what.contains(&name)), "{unread:?}");
    assert_eq!(last, "closed", "all that follows is read");
    let report = verify(dir.path(), &[], Retention::Forever).unwrap();
    assert!(report.faults.iter().any(|fault| fault.file == name), "{report:?}");
    assert_eq!(heads(dir.path(), &mut Unread::default()).unwrap().len(), 2);
    let error = intents_since(dir.path(), std::time::UNIX_EPOCH, |_, _, _| {}).unwrap_err();
    assert!(error.to_string().contains(&name), "{error}");
}

fn kept(directory: &Path) -> Vec<ChainHead> {
    heads(directory, &mut Unread::default()).unwrap()
}

fn faults(directory: &Path, heads: &[ChainHead], retention: Retention) -> Vec<String> {
    verify(directory, heads, retention).unwrap().faults.iter().map(ToString::to_string).collect()
}

/// A time at which everything is older than the retention of one hour.
fn covered() -> Retention {
    let hour = Duration::from_secs(3600);
    Retention::For(hour, Clock::system().now() + 2 * hour)
}

#[test]
fn a_second_spelling_of_a_file_name_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let second = paths(dir.path())[1].clone();
    let name = second.file_name().unwrap().to_str().unwrap().to_owned();
    let others = [
        name.replace("-000002", "-2"),
        name.replace("-000002", "-0000002"),
        name.replace("-000002", "-+00002"),
        name.replace("-000002", "-000000"),
        name.replace("record", "RECORD"),
        name.replace(".jsonl", ".JSONL"),
        name.replace(".jsonl", ".jsonl.GZ"),
        name.replace(".jsonl", ".jsonl.1"),
        format!(" {name}"),
    ];
    for other in &others {
        let path = dir.path().join(other);
        std::fs::copy(&second, &path).unwrap();
        let reported = faults(dir.path(), &[], Retention::Forever);
        assert!(
            reported.len() == 1 && reported[0].starts_with(&format!("{other}: is not read")),
            "{other}: {reported:?}"
        );
        // Renamed over the right file it hides that file, which is a fault, too.
        std::fs::rename(&path, dir.path().join("aside")).unwrap();
        std::fs::rename(&second, &path).unwrap();
        let reported = faults(dir.path(), &[], Retention::Forever);
        assert!(reported.len() == 2 && reported.iter().any(|fault| fault.contains("missing")), "{other}: {reported:?}");
        std::fs::rename(&path, &second).unwrap();
        std::fs::remove_file(dir.path().join("aside")).unwrap();
    }
    assert_eq!(faults(dir.path(), &[], Retention::Forever), Vec::<String>::new());
}

#[test]
fn a_compressed_copy_that_differs_from_its_original_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let second = paths(dir.path())[1].clone();
    let lines = std::fs::read(&second).unwrap();
    let compressed = |bytes: &[u8]| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    };
    let (whole, mut changed) = (compressed(&lines), lines.clone());
    let at = lines.len() - 200;
    changed[at] ^= 1;
    let copy = PathBuf::from(format!("{}.gz", second.display()));
    for (what, bytes, is_fault) in [
        ("the same", &whole[..], false),
        ("half of it, in the making", &whole[..whole.len() / 2], false),
        ("nothing yet", &[][..], false),
        ("another", &compressed(&changed)[..], true),
        ("more", &compressed(&[&lines[..], b"{}\n"].concat())[..], true),
    ] {
        std::fs::write(&copy, bytes).unwrap();
        let reported = faults(dir.path(), &[], Retention::Forever);
        assert_eq!(reported.len(), usize::from(is_fault), "{what}: {reported:?}");
    }
}

#[test]
fn a_file_with_a_kept_head_may_be_missing_only_by_retention() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let files = paths(dir.path());
    let all = kept(dir.path());
    let too_long = Retention::For(Duration::from_secs(86_400), Clock::system().now());
    // Heads from when there was one file, and from when there were two.
    for last in [0, 1] {
        let early = tempfile::tempdir().unwrap();
        files[..=last].iter().for_each(|path| drop(std::fs::copy(path, early.path().join(path.file_name().unwrap()))));
        let early = kept(early.path());
        assert_eq!(early[0].file, last as u64 + 1);
        let bytes: Vec<Vec<u8>> = files[..=last].iter().map(|path| std::fs::read(path).unwrap()).collect();
        files[..=last].iter().for_each(|path| std::fs::remove_file(path).unwrap());
        for retention in [Retention::Unknown, Retention::Forever, too_long] {
            let reported = faults(dir.path(), &early, retention);
            assert!(reported.iter().any(|fault| fault.contains("gone")), "{retention:?}: {reported:?}");
        }
        assert_eq!(faults(dir.path(), &early, covered()), Vec::<String>::new());
        // Heads of an earlier build have no time; the remaining file has one.
        let undated = [ChainHead { time: None, ..early[0].clone() }];
        assert_eq!(faults(dir.path(), &undated, covered()), Vec::<String>::new());
        assert_eq!(faults(dir.path(), &undated, Retention::Unknown).len(), 1);
        files.iter().zip(bytes).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    }
    files.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    for retention in [Retention::Unknown, Retention::Forever, too_long] {
        assert!(faults(dir.path(), &all, retention)[0].contains("are missing: removed"), "{retention:?}");
    }
    assert_eq!(faults(dir.path(), &all, covered()), Vec::<String>::new());
    let undated = [ChainHead { time: None, ..all[0].clone() }];
    assert_eq!(faults(dir.path(), &undated, covered()).len(), 1, "its age is not known");
}

#[test]
fn a_chain_older_than_the_heads_without_a_head_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let now = Clock::system().now();
    let hour = Duration::from_secs(3600);
    let (kept, later) = (kept(dir.path()), now + hour);
    let found = |heads: &[ChainHead], retention, at| -> Vec<String> {
        without_head(dir.path(), heads, retention, at).unwrap().iter().map(ToString::to_string).collect()
    };
    assert_eq!(found(&kept, Retention::Unknown, later), Vec::<String>::new());
    let made_up = |begun: std::time::SystemTime| {
        let (mut link, mut bytes) = (chain::Link::default(), Vec::new());
        let begun = clock::rfc3339(begun);
        let header = r#""kind":"header","format":1,"instance":"0123456789abcdef","file":1,"writer":"serve""#;
        link.append(format!(r#"{{"time":"{begun}",{header}}}"#).as_bytes(), &mut bytes);
        let path = files::path(dir.path(), "0123456789abcdef", 1);
        std::fs::write(&path, bytes).unwrap();
        path.file_name().unwrap().to_str().unwrap().to_owned()
    };
    let name = made_up(now - hour);
    assert_eq!(faults(dir.path(), &kept, Retention::Forever), Vec::<String>::new(), "it is sound in itself");
    let reported = found(&kept, Retention::Forever, later);
    assert!(
        reported.len() == 1 && reported[0].starts_with(&format!("{name}: claims to have started at")),
        "{reported:?}"
    );
    let short = Retention::For(Duration::from_secs(60), now);
    assert_eq!(found(&kept, short, later), Vec::<String>::new(), "so old that it need not be there");
    let ahead = [ChainHead { time: Some(clock::rfc3339(now + 400 * 24 * hour)), ..kept[0].clone() }];
    assert_eq!(found(&ahead, Retention::Forever, later), Vec::<String>::new(), "a wrong clock dated it");
    made_up(now + hour);
    assert_eq!(found(&kept, Retention::Forever, later), Vec::<String>::new(), "begun since");
}

#[test]
fn line_numbers_that_no_writer_can_reach_are_faults() {
    let dir = tempfile::tempdir().unwrap();
    let instance = "0123456789abcdef";
    let (mut link, mut bytes) = (chain::Link { number: u64::MAX - 3, ..chain::Link::default() }, Vec::new());
    for body in [r#"{"kind":"header"}"#, r#"{"a":1}"#, r#"{"a":2}"#] {
        link.append(body.as_bytes(), &mut bytes);
    }
    let after = chain::Link { number: 0, ..link };
    { after }.append(br#"{"a":3}"#, &mut bytes);
    std::fs::write(files::path(dir.path(), instance, 1), bytes).unwrap();
    std::fs::write(files::path(dir.path(), instance, u64::MAX), "").unwrap();
    let report = verify(dir.path(), &[], Retention::Forever).unwrap();
    let lines: Vec<Option<u64>> = report.faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [Some(1), Some(4), None], "{report:?}");
}
