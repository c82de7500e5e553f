//! Reads `[runtime]` and `[authentication]`.

use std::num::NonZeroUsize;

use toml::de::DeValue;

use super::Workers;
use super::fault::Setting;
use super::numbers::{MILLISECOND, integer};
use super::outline::Shape;
use super::section::Section;
use crate::credential::PhpDates;
use crate::replay::Window;
use crate::socket::IoChoice;

/// The most workers.
const MAX_WORKERS: usize = 1024;

pub(super) fn runtime(root: &mut Section<'_>) -> (Workers, IoChoice) {
    let source = root.source;
    let mut runtime = root.section("runtime");
    let default =
        Setting { key: "runtime.workers".into(), value: "\"per-core\"".into(), default: Some("\"per-core\"".into()) };
    let shape = || Shape::Either(vec![Shape::word(["per-core", "shared"]), Shape::Number(1, MAX_WORKERS)]);
    runtime.note("workers", shape, Some("\"per-core\""));
    let workers = match runtime.take("workers") {
        None => {
            source.record(default);
            Workers::PerCore
        }
        Some(value) => {
            let number = integer(value.get_ref()).and_then(|n| usize::try_from(n).ok()).and_then(NonZeroUsize::new);
            match (value.get_ref(), number) {
                (DeValue::String(word), _) if word == "per-core" => {
                    source.record(default);
                    Workers::PerCore
                }
                (DeValue::String(word), _) if word == "shared" => {
                    source.record(Setting { value: "\"shared\"".into(), ..default });
                    Workers::Shared
                }
                (_, Some(count)) if count.get() <= MAX_WORKERS => {
                    source.record(Setting { value: count.to_string(), ..default });
                    Workers::Count(count)
                }
                _ => {
                    let at = Some(value.span().start);
                    source.fault_at(
                        at,
                        "runtime.workers",
                        format!("expected \"per-core\", \"shared\" or a number from 1 to {MAX_WORKERS}"),
                    );
                    Workers::PerCore
                }
            }
        }
    };
    let at = runtime.at("io");
    let io = runtime.word("io", &IoChoice::WORDS, IoChoice::DEFAULT);
    if (workers, io) == (Workers::Shared, IoChoice::Uring) {
        source.fault_at(
            at,
            "runtime.io",
            "is \"uring\" with runtime.workers = \"shared\": a ring belongs to one core; expected \"auto\" or \"epoll\", or other \
             workers",
        );
    }
    runtime.finish();
    (workers, io)
}

/// How far a date may lie from now, and whether the date format of the PHP SDK is accepted.
pub(super) fn authentication(root: &mut Section<'_>) -> (Window, PhpDates) {
    let mut section = root.section("authentication");
    let past = section.duration("window_past", Window::PAST, MILLISECOND);
    let future = section.duration("window_future", Window::FUTURE, MILLISECOND);
    let php = section.flag("accept_php_sdk_dates", true);
    section.finish();
    (Window { past, future }, if php { PhpDates::Accept } else { PhpDates::Refuse })
}
