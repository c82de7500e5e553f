# Varnish in front of Saltgate. Clients connect to the address of varnishd -a.
# 8080 and 8081 are two gateways that share a Redis: leave the second out if there is one.
# In the gateways: trusted_proxies = ["ADDRESS OF THIS VARNISH"].
vcl 4.1;

import directors;

backend gate_1 {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2s;
    # Longer than the gateway may take (response_timeout 10 s and answer_timeout 30 s): its answer says what happened.
    .first_byte_timeout = 60s;
}

backend gate_2 {
    .host = "127.0.0.1";
    .port = "8081";
    .connect_timeout = 2s;
    .first_byte_timeout = 60s;
}

sub vcl_init {
    new gates = directors.round_robin();
    gates.add_backend(gate_1);
    gates.add_backend(gate_2);
}

sub vcl_recv {
    set req.backend_hint = gates.backend();
    # Nothing is cached, and no request waits for the answer to another one. Varnish adds the client's address to
    # X-Forwarded-For and leaves Host and the path unchanged.
    return (pass);
}

sub vcl_backend_fetch {
    # A new connection for each request: on one that was used before, Varnish resends a request once if the answer is
    # lost, even a DELETE. No setting turns that off. This is for all methods, because they share their connections.
    set bereq.http.Connection = "close";
    return (fetch);
}

sub vcl_backend_error {
    # The built-in answer is 503 with Retry-After, after which many clients resend the request. It is unknown
    # whether it was carried out, so the status must be 502.
    set beresp.status = 502;
    set beresp.reason = "Bad Gateway";
    unset beresp.http.Retry-After;
    set beresp.http.Content-Type = "application/json";
    set beresp.body = """{"errorCode":"BadGateway","errorMessage":"The gateway did not answer."}""";
    return (deliver);
}
