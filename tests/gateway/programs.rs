//! The three programs of the API page, unchanged except for host, key and secret, run for real.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::harness::{Gate, SEGMENT, Upstream, api_key, secret, service};
use crate::http::get;

const BASH: &str = r#"API_KEY="NCSXXXXXXXXXXXXX"
API_SECRET="YOUR_API_SECRET"
DATE=$(date -u +"%Y-%m-%dT%H:%M:%SZ")
SALT=$(openssl rand -hex 16)
SIGNATURE=$(echo -n "${DATE}${SALT}" | openssl dgst -sha256 -hmac "${API_SECRET}" | awk '{print $NF}')
AUTH="HMAC-SHA256 apiKey=${API_KEY}, date=${DATE}, salt=${SALT}, signature=${SIGNATURE}"
curl -X DELETE 'https://api.solapi.com/crm-core/v1/segments/CRMSG1260423081530123SGM11122233' \
-H "Authorization: ${AUTH}" \
-H "Content-Type: application/json""#;

const NODE: &str = r"const crypto = require('crypto');
const apiKey = 'NCSXXXXXXXXXXXXX';
const apiSecret = 'YOUR_API_SECRET';
const dateTime = new Date().toISOString();
const salt = crypto.randomBytes(16).toString('hex');
const signature = crypto.createHmac('sha256', apiSecret).update(dateTime + salt).digest('hex');
const authHeader = `HMAC-SHA256 apiKey=${apiKey}, date=${dateTime}, salt=${salt}, signature=${signature}`;
(async () => {
const response = await fetch('https://api.solapi.com/crm-core/v1/segments/CRMSG1260423081530123SGM11122233', {
method: 'DELETE',
headers: { 'Authorization': authHeader, 'Content-Type': 'application/json' }
});
const data = await response.json();
console.log(JSON.stringify(data));
})();";

const PYTHON: &str = r"import hmac, hashlib, secrets, requests
from datetime import datetime, timezone
api_key = 'NCSXXXXXXXXXXXXX'
api_secret = 'YOUR_API_SECRET'
date_time = datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
salt = secrets.token_hex(16)
signature = hmac.new(api_secret.encode(), (date_time + salt).encode(), hashlib.sha256).hexdigest()
auth_header = f'HMAC-SHA256 apiKey={api_key}, date={date_time}, salt={salt}, signature={signature}'
response = requests.delete('https://api.solapi.com/crm-core/v1/segments/CRMSG1260423081530123SGM11122233', headers={
'Authorization': auth_header,
'Content-Type': 'application/json'
})
data = response.json()
print(data)";

#[test]
fn the_programs_of_the_api_page_delete() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let gate = Gate::before(&upstream);
    let runs = [("bash", "-c", BASH), ("node", "-e", NODE), ("python3", "-c", PYTHON)];
    for (n, (program, flag, source)) in runs.into_iter().enumerate() {
        assert!(source.contains(SEGMENT));
        let source = source
            .replace("https://api.solapi.com", &format!("http://{}", gate.address()))
            .replace("NCSXXXXXXXXXXXXX", &api_key("MEMBER"))
            .replace("YOUR_API_SECRET", &secret("MEMBER"));
        let output = Command::new(program).args([flag, &source]).env("NO_PROXY", "*").output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}; tests/requirements.sh installs it"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("deleted"), "{program}: {said}");
        assert_eq!(upstream.deletes(), n + 1, "{program}");
    }
}

#[test]
fn the_demo_walks_through_the_table_and_ends_with_0() {
    let output = Command::new(env!("CARGO_BIN_EXE_saltgate")).args(["demo", "--once"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("its salt is spent") && said.contains("segments: gone"), "{said}");
    // What it says of a key that is rotated and revoked, each with the answers that show it.
    let changes = said.split_once("is rotated and revoked while the gateway runs").unwrap().1.lines().skip(1);
    let told = |line: &str| line.split_once("; in force after").map_or(line, |(what, _)| what).trim_end().to_owned();
    let shown: Vec<String> = changes
        .take(8)
        .map(|line| {
            told(line).split("  ").map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ")
        })
        .collect();
    let expected = [
        "a second secret is added",
        "signed with the old secret: 404: accepted as before",
        "signed with the new secret: 404: accepted too: callers change over one by one",
        "the old one is taken away",
        "signed with the old secret: 401: the signature does not match",
        "signed with the new secret: 404: accepted",
        "the key is revoked",
        "signed with the new secret: 401: the key is switched off",
    ];
    assert_eq!(shown, expected, "{said}");
}

#[test]
fn the_embedded_crm_runs_alone_and_leaves_nothing_behind() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saltgate"));
    let mut crm = command.args(["demo", "--crm", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(crm.stdout.take().unwrap()).lines();
    let first = told.next().unwrap().unwrap();
    let (address, folder) =
        first.strip_prefix("An embedded CRM at http://").unwrap().split_once("; its data is in ").unwrap();
    assert_eq!(get(address.parse().unwrap(), "/health").status, 200);
    assert!(told.any(|line| line.unwrap().contains("member-maker")), "its members are told");
    let folder = std::path::Path::new(folder);
    assert!(folder.join("crm.sqlite").is_file());
    assert!(Command::new("kill").arg(crm.id().to_string()).status().unwrap().success());
    assert_eq!(crm.wait().unwrap().code(), Some(0));
    assert!(!folder.exists(), "{}", folder.display());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_saltgate")).args(["demo", "--crm", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("{address}: Address already in use")));
}
