//! What the three scripts do, line by line. `agreement.rs` holds them against the scripts in a real Redis.

use redis::Value;

use super::machine::{Machine, NOTHING, bulk};
use super::{Mechanism, is_off};

/// An answer, or the line of an error.
pub(super) type Answer = Result<Value, String>;

/// An epoch marker.
struct Marker<'m> {
    run: &'m str,
    history: &'m str,
    floor: &'m str,
    past: &'m str,
    future: &'m str,
    epoch: &'m str,
}

impl<'m> Marker<'m> {
    /// `None` if it is of another version.
    fn parse(text: &'m str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut next =
            |is: fn(&u8) -> bool| parts.next().filter(|part| !part.is_empty() && part.bytes().all(|b| is(&b)));
        let version = next(|_| true)?;
        let (run, history) = (next(u8::is_ascii_hexdigit)?, next(u8::is_ascii_hexdigit)?);
        let (floor, past, future) = (next(u8::is_ascii_digit)?, next(u8::is_ascii_digit)?, next(u8::is_ascii_digit)?);
        let epoch = parts.next().unwrap_or_default();
        let is_sound = epoch.bytes().all(|b| b.is_ascii_digit()) && parts.next().is_none();
        let is_known = ["1", "2"].contains(&version) && (version == "2") != epoch.is_empty();
        (is_sound && is_known).then_some(Self { run, history, floor, past, future, epoch })
    }
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_default()
}

/// `claim.lua`.
pub(super) fn claim(machine: &mut Machine, keys: &[&str], argv: &[&str], off: Option<Mechanism>) -> Answer {
    let answer = |word: &str, more: &str| Ok(bulk(format!("{word} {} {}{more}", keys[0], argv[6])));
    let Some(text) = machine.get(keys[1]) else { return answer("FORGOT", "") };
    let Some(marker) = Marker::parse(&text) else { return answer("VERSION", "") };
    let mine = argv.get(8).copied().unwrap_or_default();
    if !marker.epoch.is_empty() && mine.is_empty() {
        return answer("VERSION", "");
    }
    if marker.epoch != mine && !is_off(off, Mechanism::Epoch) {
        return answer("FORGOT", "");
    }
    if marker.history != machine.history && !is_off(off, Mechanism::History) {
        return answer("FORGOT", "");
    }
    let Marker { past, future, floor, .. } = marker;
    if past != argv[2] || future != argv[3] {
        return answer("WINDOW", &format!(" {past} {future}"));
    }
    if (machine.time - number(argv[4])).abs() > number(argv[5]) && !is_off(off, Mechanism::Clock) {
        return answer("CLOCK", "");
    }
    if argv[0] <= floor && !is_off(off, Mechanism::Floor) {
        return answer("FLOOR", &format!(" {floor}"));
    }
    if machine.set(keys[0], argv[7], Some(number(argv[1])), true)? {
        return answer("SPENT", "");
    }
    match machine.get(keys[0]) {
        Some(mark) if !mark.is_empty() => answer("REUSED", &format!(" {mark}")),
        _ => answer("REUSED", ""),
    }
}

/// `attest.lua`.
pub(super) fn attest(machine: &mut Machine, keys: &[&str], argv: &[&str], off: Option<Mechanism>) -> Answer {
    let answer = |word: &str, more: &str| Ok(bulk(format!("{word} {} {}{more}", keys[0], argv[5])));
    let (run, history) = (machine.run.clone(), machine.history.clone());
    let mine = argv.get(6).copied().unwrap_or_default();
    let vouch = |machine: &mut Machine, floor: &str| {
        let version = if mine.is_empty() { "1" } else { "2" };
        let epoch = if mine.is_empty() { String::new() } else { format!(" {mine}") };
        let text = format!("{version} {run} {history} {floor} {} {}{epoch}", argv[0], argv[1]);
        machine.set(keys[0], &text, None, false)
    };
    let is_apart = (machine.time - number(argv[7])).abs() > number(argv[8]) && !is_off(off, Mechanism::ClockOfFence);
    let Some(text) = machine.get(keys[0]) else {
        if is_apart {
            return answer("CLOCK", "");
        }
        vouch(machine, argv[2])?;
        return answer("RAISED", &format!(" {}", argv[2]));
    };
    let Some(marker) = Marker::parse(&text) else { return answer("VERSION", "") };
    if !marker.epoch.is_empty() && mine.is_empty() {
        return answer("VERSION", "");
    }
    if marker.epoch > mine && !is_off(off, Mechanism::Epoch) {
        return answer("LATER", &format!(" {}", marker.epoch));
    }
    if marker.past != argv[0] || marker.future != argv[1] {
        return answer("WINDOW", &format!(" {} {}", marker.past, marker.future));
    }
    let same_epoch = marker.epoch == mine || is_off(off, Mechanism::Epoch);
    let same_history = marker.history == machine.history || is_off(off, Mechanism::History);
    let renamed = marker.run == machine.run && same_epoch && machine.earlier == NOTHING;
    let forced = argv[4] == "1";
    if same_history && same_epoch && !forced {
        let written = machine.set(keys[0], &text, None, false);
        if let Err(why) = written.as_ref().map_err(|why| why.as_str()) {
            if !why.contains("OOM") {
                return Err(why.into());
            }
        }
        return answer("OK", &format!(" {}", marker.floor));
    }
    let floor = if !renamed || forced { marker.floor.max(argv[3]) } else { marker.floor };
    let sets_floor = !renamed || forced;
    if !sets_floor || !is_apart || same_history && same_epoch {
        vouch(machine, floor)?;
    }
    if sets_floor && is_apart {
        return answer("CLOCK", "");
    }
    answer(if renamed && !forced { "OK" } else { "RAISED" }, &format!(" {floor}"))
}

/// `fleet.lua`.
pub(super) fn fleet(machine: &mut Machine, keys: &[&str], argv: &[&str]) -> Answer {
    let key = keys[0];
    let mut version = number(&machine.field(key, "version").unwrap_or_default());
    let texts = |texts: Vec<String>| Ok(Value::Array(texts.into_iter().map(bulk).collect()));
    match argv[0] {
        "read" => {
            if number(argv[5]) > version {
                version = number(argv[5]);
                machine.set_fields(key, &[("version", argv[5]), ("state", argv[6])])?;
            }
            let seen = format!("{} {} {}", machine.time, argv[4], argv[3]);
            machine.set_fields(key, &[(&format!("gateway:{}", argv[2]), &seen)])?;
            let state = machine.field(key, "state").unwrap_or_default();
            texts(vec![argv[1].into(), version.to_string(), state])
        }
        "replace" if number(argv[2]) != version => texts(vec![argv[1].into(), "0".into()]),
        "replace" => {
            machine.set_fields(key, &[("version", &(version + 1).to_string()), ("state", argv[3])])?;
            texts(vec![argv[1].into(), "1".into()])
        }
        _ => {
            let mut answer = vec![argv[1].into(), version.to_string()];
            for (field, value) in machine.fields(key) {
                if !field.starts_with("gateway:") {
                    continue;
                }
                let mut parts = value.splitn(3, ' ');
                let (at, cleared, name) = (parts.next(), parts.next(), parts.next());
                let silent = at.map_or(0, |at| (machine.time - number(at)).max(0));
                if silent > 3_600_000 {
                    machine.delete_field(key, &field)?;
                } else {
                    answer.push(format!("{silent} {} {}", cleared.unwrap_or("0"), name.unwrap_or(&field)));
                }
            }
            texts(answer)
        }
    }
}
