//! Which clause of the contract a header meets or misses, line by line. Spends nothing, and
//! never prints a secret or a right signature.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::{fail, load, report};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::credential::{Credentials, Date, PhpDates, Secret, SigningKey};
use crate::directory::{Caller, Directory};
use crate::replay::{Floor, OutOfWindow};
use crate::serve;

pub(super) fn run(path: &Path) -> ExitCode {
    let mut config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    // The near misses need the secrets; the directory takes them for good.
    let secrets: Vec<(String, Vec<Secret>)> =
        config.keys.iter().map(|k| (k.api_key.clone(), copies(&k.secrets))).collect();
    let directory = match serve::directory(&mut config) {
        Ok(directory) => directory,
        Err(faults) => return report(&faults),
    };
    // Somewhat more than any header; the rest of an endless input is not waited for.
    let mut input = String::new();
    if let Err(error) = std::io::stdin().take(64 << 10).read_to_string(&mut input) {
        return fail(format!("standard input cannot be read: {error}"));
    }
    let line = input.trim_end_matches(['\n', '\r']);
    let value = match line.split_once(':') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("authorization") => value.trim(),
        _ => line,
    };
    let now = Clock::system().now();
    let explanation = Explanation { config: &config, directory: &directory, secrets: &secrets, now };
    let good = explanation.of(value);
    println!("{}", if good { "verdict: good, as far as a header goes" } else { "verdict: 401" });
    ExitCode::SUCCESS
}

fn copies(secrets: &[Secret]) -> Vec<Secret> {
    secrets.iter().filter_map(|secret| Secret::new(secret.expose()).ok()).collect()
}

struct Explanation<'e> {
    config: &'e Config,
    directory: &'e Directory,
    secrets: &'e [(String, Vec<Secret>)],
    now: SystemTime,
}

impl Explanation<'_> {
    fn of(&self, value: &str) -> bool {
        let php = if self.config.php_dates { PhpDates::Accept } else { PhpDates::Refuse };
        let credentials = match Credentials::parse(value.as_bytes(), php) {
            Ok(credentials) => credentials,
            Err(malformed) => {
                println!("form      no   §2: {malformed}");
                if value.is_empty() {
                    println!("               standard input holds no header; give the value of the Authorization line");
                }
                return false;
            }
        };
        let date = credentials.date();
        println!("form      yes  §2: the header is well formed");
        println!("signed         the bytes {:?}", format!("{}{}", date.text(), credentials.salt()));
        let php = if date.is_php_sdk() { ", the PHP SDK's form: Korean time" } else { "" };
        println!("date           {}{php}", clock::rfc3339(date.instant()));

        let caller = self.directory.caller(credentials.api_key());
        let known = self.key(credentials.api_key(), caller.map(|caller| &**caller));
        let signed = self.signature(&credentials, caller.map(|caller| &**caller));
        let fresh = self.freshness(&date);
        if let Some(caller) = caller {
            match caller.role {
                Some(role) => println!(
                    "role           §5: {role} in account {}, member {}",
                    caller.owner.account, caller.owner.member
                ),
                None => println!("role      no   §5: the key has no role, and may delete nothing"),
            }
        }
        println!("salt           §3: only the running gateway knows whether it was spent");
        if known && signed && fresh {
            println!(
                "warning        this header is still good for use by whoever sees it: do not pass it on before it is sent or stale"
            );
        }
        known && signed && fresh && caller.is_some_and(|caller| caller.role.is_some())
    }

    fn key(&self, api_key: &str, caller: Option<&Caller>) -> bool {
        match caller {
            Some(caller) if caller.is_active(self.now) => {
                println!("key       yes  §4: {api_key} is known and active");
                true
            }
            Some(_) => {
                println!("key       no   §4: {api_key} is switched off or has expired");
                false
            }
            None => {
                let near = self.directory.callers().find(|c| c.api_key.eq_ignore_ascii_case(api_key));
                let hint = near.map(|c| format!("; case counts: did you mean {}?", c.api_key)).unwrap_or_default();
                println!("key       no   §4: {api_key} is not in {}{hint}", self.config.keys_file.display());
                false
            }
        }
    }

    fn signature(&self, credentials: &Credentials<'_>, caller: Option<&Caller>) -> bool {
        let Some(caller) = caller else {
            self.near_misses(credentials);
            return false;
        };
        if caller.signed(credentials).into() {
            println!("signature yes  §2: made with the key's secret");
            return true;
        }
        println!("signature no   §2: not made with the secret of {}", caller.api_key);
        self.near_misses(credentials);
        false
    }

    /// What people get wrong, where the signature tells.
    fn near_misses(&self, credentials: &Credentials<'_>) {
        for (api_key, secrets) in self.secrets {
            for secret in secrets {
                for (what, secret, swapped) in variants(secret) {
                    if !made_by(&secret, credentials, swapped) {
                        continue;
                    }
                    if api_key == credentials.api_key() {
                        if let Some(what) = what {
                            println!("               near miss: it was made with the key's secret, but {what}");
                        }
                    } else {
                        let but = what.map(|what| format!(", and {what}")).unwrap_or_default();
                        println!("               near miss: it was made with the secret of {api_key}{but}");
                    }
                    return;
                }
            }
        }
    }

    fn freshness(&self, date: &Date<'_>) -> bool {
        let skew = skew_in_words(date.instant(), self.now);
        match self.config.window.judge(date.instant(), self.now, Floor(SystemTime::UNIX_EPOCH)) {
            Ok(()) => {
                println!("window    yes  §3: {skew}");
                true
            }
            Err(OutOfWindow::Past | OutOfWindow::BelowFloor) => {
                println!("window    no   §3: {skew}, and may be at most {} behind", in_words(self.config.window.past));
                false
            }
            Err(OutOfWindow::Future) => {
                println!("window    no   §3: {skew}, and may be at most {} ahead", in_words(self.config.window.future));
                false
            }
        }
    }
}

/// A secret as people mistake it: what went wrong, the bytes, and whether date and salt were
/// swapped.
fn variants(secret: &Secret) -> Vec<(Option<&'static str>, Vec<u8>, bool)> {
    let bytes = secret.expose();
    let trimmed = bytes.trim_ascii();
    let mut variants = vec![
        (None, bytes.to_vec(), false),
        (Some("salt and date were swapped before signing"), bytes.to_vec(), true),
        (Some("with a line end after it: a trailing newline in the client's secret"), [bytes, b"\n"].concat(), false),
        (Some("with a line end after it: a trailing newline in the client's secret"), [bytes, b"\r\n"].concat(), false),
    ];
    if trimmed.len() < bytes.len() {
        variants.push((
            Some("without the white space around it that our configuration holds"),
            trimmed.to_vec(),
            false,
        ));
    }
    variants
}

fn made_by(secret: &[u8], credentials: &Credentials<'_>, swapped: bool) -> bool {
    let Ok(secret) = Secret::new(secret) else { return false };
    let key = SigningKey::new(&secret);
    let (date, salt, signature) = (credentials.date(), credentials.salt(), credentials.signature());
    let made = if swapped { key.verify_swapped(&date, salt, signature) } else { key.verify(&date, salt, signature) };
    made.into()
}

fn skew_in_words(date: SystemTime, now: SystemTime) -> String {
    let (skew, side) = match date.duration_since(now) {
        Ok(ahead) => (ahead, "ahead"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let minutes = (skew.as_secs() + 30) / 60;
    let hint = match (minutes, side) {
        (535..=545, "ahead") => " (Korean time labelled Z?)",
        (535..=545, "behind") => " (UTC labelled +09:00?)",
        (m, _) if m >= 50 && m % 60 <= 3 && m < 15 * 60 => " (a time zone mistaken?)",
        (m, _) if m > 15 => " (a clock that is wrong, or an old header)",
        _ => "",
    };
    format!("{} {side}{hint}", in_words(skew))
}

fn in_words(span: Duration) -> String {
    let counted = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    match span.as_secs() + u64::from(span.subsec_millis() >= 500) {
        s @ ..90 => counted(s, "second"),
        s @ 90..5400 => counted((s + 30) / 60, "minute"),
        s @ 5400..172_800 => counted((s + 1800) / 3600, "hour"),
        s => counted((s + 43_200) / 86_400, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_is_told_in_words() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let rows = [
            (now, "0 seconds ahead"),
            (now - Duration::from_secs(1), "1 second behind"),
            (now + Duration::from_secs(9 * 3600 + 2), "9 hours ahead (Korean time labelled Z?)"),
            (now - Duration::from_secs(9 * 3600), "9 hours behind (UTC labelled +09:00?)"),
            (now - Duration::from_secs(20 * 60), "20 minutes behind (a clock that is wrong, or an old header)"),
        ];
        for (date, words) in rows {
            assert_eq!(skew_in_words(date, now), words);
        }
    }
}
