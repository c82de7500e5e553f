//! The three sample programs of the API documentation, with a working host, key and secret.

use std::net::SocketAddr;

/// Writes a program for a host, an apiKey, a secret and a segment.
pub(super) type Program = fn(SocketAddr, &str, &str, &str) -> String;

/// Bash, Node and Python.
pub(super) const ALL: [Program; 3] = [bash, node, python];

fn bash(host: SocketAddr, api_key: &str, secret: &str, segment: &str) -> String {
    format!(
        r#"API_KEY="{api_key}"
API_SECRET="{secret}"
DATE=$(date -u +"%Y-%m-%dT%H:%M:%SZ")
SALT=$(openssl rand -hex 16)
SIGNATURE=$(echo -n "${{DATE}}${{SALT}}" | openssl dgst -sha256 -hmac "${{API_SECRET}}" | awk '{{print $NF}}')
AUTH="HMAC-SHA256 apiKey=${{API_KEY}}, date=${{DATE}}, salt=${{SALT}}, signature=${{SIGNATURE}}"
curl -X DELETE 'http://{host}/crm-core/v1/segments/{segment}' \
-H "Authorization: ${{AUTH}}" \
-H "Content-Type: application/json""#
    )
}

fn node(host: SocketAddr, api_key: &str, secret: &str, segment: &str) -> String {
    format!(
        r#"node --input-type=module <<'END'
import crypto from 'crypto';
const apiKey = '{api_key}';
const apiSecret = '{secret}';
const dateTime = new Date().toISOString();
const salt = crypto.randomBytes(16).toString('hex');
const signature = crypto.createHmac('sha256', apiSecret).update(dateTime + salt).digest('hex');
const authHeader = `HMAC-SHA256 apiKey=${{apiKey}}, date=${{dateTime}}, salt=${{salt}}, signature=${{signature}}`;
const response = await fetch('http://{host}/crm-core/v1/segments/{segment}', {{
method: 'DELETE',
headers: {{ 'Authorization': authHeader, 'Content-Type': 'application/json' }}
}});
console.log(response.status, await response.json());
END"#
    )
}

fn python(host: SocketAddr, api_key: &str, secret: &str, segment: &str) -> String {
    format!(
        r#"python3 <<'END'
import hmac, hashlib, secrets, requests
from datetime import datetime, timezone
api_key = '{api_key}'
api_secret = '{secret}'
date_time = datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
salt = secrets.token_hex(16)
signature = hmac.new(api_secret.encode(), (date_time + salt).encode(), hashlib.sha256).hexdigest()
auth_header = f'HMAC-SHA256 apiKey={{api_key}}, date={{date_time}}, salt={{salt}}, signature={{signature}}'
response = requests.delete('http://{host}/crm-core/v1/segments/{segment}', headers={{
'Authorization': auth_header,
'Content-Type': 'application/json'
}})
print(response.status_code, response.json())
END"#
    )
}
