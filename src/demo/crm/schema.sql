-- `segments` is referenced without ON DELETE: a deletion that forgets a table fails as a whole.
CREATE TABLE IF NOT EXISTS accounts (
    account_id TEXT PRIMARY KEY
) STRICT;

CREATE TABLE IF NOT EXISTS members (
    member_id  TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts,
    role       TEXT CHECK (role IN ('OWNER', 'DEVELOPER', 'MEMBER')),
    UNIQUE (account_id, member_id)
) STRICT;

CREATE TABLE IF NOT EXISTS segments (
    segment_id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    owner_id   TEXT NOT NULL,
    name       TEXT NOT NULL,
    created_at TEXT NOT NULL,
    version    INTEGER NOT NULL DEFAULT 1,
    UNIQUE (account_id, segment_id),
    FOREIGN KEY (account_id, owner_id) REFERENCES members (account_id, member_id)
) STRICT;

CREATE TABLE IF NOT EXISTS segment_members (
    segment_id TEXT NOT NULL REFERENCES segments,
    contact    TEXT NOT NULL,
    cached_at  TEXT NOT NULL,
    PRIMARY KEY (segment_id, contact)
) STRICT;

-- An automation triggers only from a segment that exists, so one whose segment is gone can
-- never be switched on again. `stopped_with` remembers which segment that was.
CREATE TABLE IF NOT EXISTS automations (
    automation_id TEXT PRIMARY KEY,
    account_id    TEXT NOT NULL REFERENCES accounts,
    segment_id    TEXT,
    stopped_with  TEXT,
    name          TEXT NOT NULL,
    triggering    INTEGER NOT NULL CHECK (triggering IN (0, 1)),
    CHECK (triggering = 0 OR segment_id IS NOT NULL),
    FOREIGN KEY (account_id, segment_id) REFERENCES segments (account_id, segment_id)
) STRICT;

CREATE INDEX IF NOT EXISTS automations_of_segment ON automations (account_id, segment_id);
