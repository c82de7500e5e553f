"""Checks of a proxy in front of the gateway. Each raises AssertionError, or returns its observations."""
import contextlib
import subprocess
import threading

from rig import CLIENT, ROUTE, Client, Service, once, open_towards, segment, signed, wait

REFUSED = '{"errorCode":"Unauthorized","errorMessage":"권한이 없습니다."}'.encode()


def authorization(value=None):
    return f"Authorization: {value or signed()}"


def seen_by_gates(rig, of):
    """The decisions about a segment, after all earlier requests were decided."""
    for gate in rig.gates:
        mark = segment()
        once(gate.port, "GET", ROUTE + mark)
        wait("a mark in the log", lambda: gate.decisions(mark))
    return [one for gate in rig.gates for one in gate.decisions(of)]


def an_authorized_deletion_passes_once(rig):
    target = ROUTE + segment()
    answer = once(rig.front, "DELETE", target, authorization(), "X-Forwarded-For: 203.0.113.9")
    assert answer.status == 200 and answer.body == b'{"deleted": true}', answer
    assert [one.target for one in rig.service.deletes(target)] == [target]
    (decision,) = seen_by_gates(rig, target)
    assert decision["client"] == CLIENT, f"the client on record is {decision['client']}"
    (deletion,) = rig.service.deletes(target)
    assert deletion.field("authorization") == []
    assert deletion.field("x-forwarded-host") == ["crm.example.com"], f"the Host the client used is {deletion.field('x-forwarded-host')}"


def a_refused_one_is_the_gates_401(rig):
    with Client(rig.front) as client:
        for _ in range(5):
            answer = client.send("DELETE", ROUTE + segment(), authorization("HMAC-SHA256 nothing"))
            assert answer.status == 401 and answer.body == REFUSED, answer
            assert answer.headers["www-authenticate"] == "HMAC-SHA256" and "x-request-id" in answer.headers, answer.headers
    # The gateway closes its connection after a 401: the next request must not be lost with it.
    for _ in range(5):
        once(rig.front, "DELETE", ROUTE + segment())
        assert (answer := once(rig.front, "DELETE", ROUTE + segment(), authorization())).status == 200, answer


def a_lost_answer_is_not_asked_for_again(rig):
    rig.service.play = "close"
    try:
        for _ in range(3):
            target = ROUTE + segment()
            answer = once(rig.front, "DELETE", target, authorization())
            assert len(rig.service.deletes(target)) == 1
            decisions = seen_by_gates(rig, target)
            assert [one["reason"] for one in decisions] == ["outcome_unknown"], decisions
            assert answer.status == 502 and b"OutcomeUnknown" in answer.body, answer
    finally:
        rig.service.play = "answer"


# Fields that some proxies take as permission to resend.
LEAVE = ["Idempotency-Key: 1", "X-Idempotency-Key: 1", "x-envoy-retry-on: 5xx,reset,retriable-status-codes", "x-envoy-max-retries: 3"]


def what_was_read_and_not_answered_is_not_sent_again(rig):
    """Replaces the gateways: reads a DELETE and closes, like a killed gateway that is back at once."""
    with stand_ins(rig) as instead:
        return "the client is told " + ", ".join(sorted({lose(rig, instead, warm) for warm in (True, False) * 2}))


def nor_by_http2(rig):
    """curl resends by itself if it is told that nothing was done (REFUSED_STREAM)."""
    with stand_ins(rig) as instead:
        wait("the proxy takes the gates", lambda: once(rig.front, "GET", ROUTE + segment()).status == 200)
        target = ROUTE + segment()
        command = ["curl", "-s", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", "--http2-prior-knowledge", "-X", "DELETE"]
        done = subprocess.run([*command, "-H", authorization(), f"http://127.0.0.1:{rig.front}{target}"], capture_output=True, text=True, timeout=90)
        times = sum(len(one.deletes(target)) for one in instead)
    assert times <= 1, f"sent {times} times"
    return f"the client is told {done.stdout}" if times else "HTTP/2 is not spoken without TLS"


@contextlib.contextmanager
def stand_ins(rig):
    for gate in rig.gates:
        gate.kill()
    instead = [Service(gate.port, "close") for gate in rig.gates]
    try:
        yield instead
    finally:
        for one in instead:
            one.stop()
        for gate in rig.gates:
            gate.start()


def lose(rig, instead, warm):
    with Client(rig.front) as client:
        if warm:
            for one in instead:
                one.requests.clear()
            wait("every gate is asked", lambda: client.send("GET", ROUTE + segment()) and all(one.requests for one in instead))
        else:
            wait("the proxy takes the gates", lambda: once(rig.front, "GET", ROUTE + segment()).status == 200)
        target = ROUTE + segment()
        answer = client.send("DELETE", target, authorization(), *LEAVE)
    times = sum(len(one.deletes(target)) for one in instead)
    assert times == 1, f"sent {times} times"
    return told(answer)


def told(answer):
    # Many clients resend if the connection closes without an answer, and after a 503.
    assert answer.status in (500, 502, 504), f"the client is told {answer if answer.status else 'nothing'}"
    return str(answer.status)


def a_killed_gate_deletes_nothing_twice(rig):
    return "the client is told " + ", ".join(sorted({kill_in_flight(rig, warm) for warm in (True, False, True, False)}))


def ask_every_gate(rig, client):
    before = {gate: len(gate.decisions()) for gate in rig.gates}
    asked = lambda gate: len(gate.decisions()) > before[gate]  # noqa: E731
    wait("every gate is asked", lambda: client.send("GET", ROUTE + segment()) and all(map(asked, rig.gates)))


def kill_in_flight(rig, warm):
    target, header, answers = ROUTE + segment(), authorization(), []
    client = Client(rig.front)
    if warm:
        # On connections that were used before: the client's, and those to the gateways.
        ask_every_gate(rig, client)
    rig.service.play = "hold"
    rig.service.released.clear()
    sender = threading.Thread(target=lambda: answers.append(client.send("DELETE", target, header, *LEAVE)))
    sender.start()
    try:
        (deletion,) = wait("the deletion reaches the service", lambda: rig.service.deletes(target))
        (killed,) = [gate for gate in rig.gates if [gate.name] == deletion.field("host")]
        killed.kill()
        sender.join()
    finally:
        rig.service.play = "answer"
        rig.service.released.set()
    killed.start()
    assert not (again := seen_by_gates(rig, target)), f"sent again, {len(again)} times"
    wait("the proxy takes the gate back", lambda: once(rig.front, "GET", ROUTE).status == 200)
    assert len(rig.service.deletes(target)) == 1
    repeated = once(rig.front, "DELETE", target, header)
    assert repeated.status == 401, repeated
    assert len(rig.service.deletes(target)) == 1
    (answer,) = answers
    return told(answer)


def two_authorization_lines_never_delete(rig):
    seen = []
    for first, last in ((signed(), "Basic eDp5"), ("Basic eDp5", signed()), (signed(), signed())):
        target = ROUTE + segment()
        answer = once(rig.front, "DELETE", target, authorization(first), authorization(last))
        decisions = seen_by_gates(rig, target)
        assert not rig.service.deletes(target) and answer.status in (400, 401), answer
        seen.append(decisions[0]["reason"] if decisions else f"{answer.status} by the proxy")
    return ", ".join(dict.fromkeys(seen))


def targets(id):
    """Other spellings of the path of a deletion, and paths that resolve to it."""
    yield f"/crm-core/v1/segments/%{ord(id[0]):02X}{id[1:]}"
    yield f"/crm-core/v1/segments%2F{id}"
    yield f"/crm-core/v1/segments/x%2F..%2F{id}"
    yield f"/crm-core/v1/segments/x/../{id}"
    yield f"/crm-core/v1/segments/./{id}"
    yield f"/crm-core/v1/segments/%2e/{id}"
    yield f"/crm-core/v1/segments/x/%2e%2e/{id}"
    yield f"//crm-core/v1/segments/{id}"
    yield f"/crm-core/v1/segments//{id}"
    yield f"/crm-core/v1/segments/{id}/"
    yield f"/crm-core/v1/segments/{id}/."
    yield f"/crm-core/v1/segments/{id}%00"
    yield f"/crm-core/v1/segments/{id}%23x"
    yield f"/crm-core/v1/segments/{id}%3Fx"
    yield f"/crm-core/v1/segments\\{id}"


def no_other_path_becomes_a_deletion(rig):
    told, became = {}, []
    for target in targets(id := segment()):
        before = len(rig.service.deletes())
        answer = once(rig.front, "DELETE", target, authorization())
        came = {one["path"].replace("\\\\", "\\") for one in seen_by_gates(rig, id[1:])} - told.keys()
        if len(rig.service.deletes()) > before:
            became.append(target)
            continue
        assert answer.status in (0, 400, 404), f"{target}: {answer}"
        told[target] = f"{answer.status} by the proxy"
        for path in came:
            told[target], told[path] = f"goes on as {path}", ""
    assert not became, f"deletions become {' '.join(became)}".replace(id, "ID").replace(id[1:], "D")
    changed = [f"{target} {how}" for target, how in told.items() if how]
    return ", ".join(changed).replace(id, "ID").replace(id[1:], "D") if changed else "all as they came"


def nothing_is_cached(rig):
    target = ROUTE + segment()
    for _ in range(3):
        assert once(rig.front, "GET", target).status == 200
    came = [one for one in rig.service.requests if one.target == target]
    assert len(came) == 3, f"{len(came)} of 3 came"


def what_cannot_be_sent_deletes_nothing(rig):
    """One of two gateways is down. Nothing of a request was sent to it, so the other one may be tried, but need not be."""
    if len(rig.gates) < 2:
        return "one gate"
    with Client(rig.front) as client:
        ask_every_gate(rig, client)
    rig.gates[0].kill()
    try:
        passed = 0
        for _ in range(6):
            target = ROUTE + segment()
            answer = once(rig.front, "DELETE", target, authorization())
            assert answer.status in (200, 500, 502, 503), answer
            passed += answer.status == 200
            assert len(rig.service.deletes(target)) == (answer.status == 200), answer
    finally:
        rig.gates[0].start()
    assert passed, "none of 6 passed by the other gate"
    return f"{passed} of 6 pass by the other gate"


def idle_connections_end_before_the_gate_ends_them(rig):
    wait("the proxy takes the gates", lambda: once(rig.front, "GET", ROUTE + segment()).status == 200)
    ports = {gate.port for gate in rig.gates}
    kept = open_towards(ports)
    # The gateway's idle_timeout is 75 s.
    wait("the proxy closes its idle connections", lambda: open_towards(ports) == 0, 50)
    return f"{kept} kept for a while"


CHECKS = [
    an_authorized_deletion_passes_once,
    a_refused_one_is_the_gates_401,
    a_lost_answer_is_not_asked_for_again,
    two_authorization_lines_never_delete,
    no_other_path_becomes_a_deletion,
    nothing_is_cached,
    a_killed_gate_deletes_nothing_twice,
    what_was_read_and_not_answered_is_not_sent_again,
    nor_by_http2,
    what_cannot_be_sent_deletes_nothing,
    idle_connections_end_before_the_gate_ends_them,
]
