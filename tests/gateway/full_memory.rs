//! A full store of spent salts.

use crate::harness::{Files, Upstream, service, signed, until};
use crate::http::get;
use crate::operations::Process;
use crate::spoken::Spoken::{self, Http1, Http2};

#[test]
fn a_full_store_is_degraded_and_logged_once() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    for store in ["[replay.memory]\n", "[replay.journal]\npath = \"replay\"\n"] {
        let places = "when_new = \"accept\"\nmax_salts = 3\nmax_salts_per_key = 3\n";
        let window = "[authentication]\nwindow_past = \"4s\"\nwindow_future = \"2s\"\n";
        let files = Files::new(upstream.address, &format!("{store}{places}{window}"));
        let process = Process::serve(&files);
        let ready = || get(process.admin(), "/ready");
        let told = |what: &str| process.log().lines().filter(|line| line.contains(what)).count();
        let spend = |spoken: Spoken| spoken.delete(process.address(), &signed("OWNER")).status;
        assert_eq!([Http1, Http2, Http1].map(spend), [200; 3], "{store}");
        assert_eq!([Http2, Http1, Http2].map(spend), [503; 3], "{store}");

        let full = ready();
        assert_eq!(full.status, 200, "other gateways would have the same problem: {}", full.body);
        assert!(full.body.contains("degraded: full: there is room for max_salts = 3"), "{store}: {}", full.body);
        // The log is written in the background.
        until("it is reported", || told("the replay memory is full") > 0);
        assert_eq!(told("the replay memory is full"), 1, "{}", process.log());
        let metrics = get(process.admin(), "/metrics").body;
        for line in ["saltgate_replay_salts 3", "saltgate_replay_max_salts 3", r#"reason="replay_full"} 3"#] {
            assert!(metrics.contains(line), "{line}: {metrics}");
        }

        until("it has room again", || ready().body.contains("\"replay\":\"ok\""));
        until("it is reported", || told("the replay memory has room again") > 0);
        assert_eq!(told("the replay memory has room again"), 1, "{}", process.log());
        assert_eq!(spend(Http2), 200, "{store}");
        assert_eq!(told("the replay memory is full"), 1, "{}", process.log());
    }
}
