-- Counts a deletion for a key and for an account, or for neither, if both budgets allow one more. Everything is judged here,
-- in one step and by one clock: the server's.
--   KEYS: the epoch marker, the deletions of the key, those of the account (sorted sets: by time, in µs)
--   ARGV: 'judge', or 'take', which counts it as well; the number of this question, which names the deletion; the epoch of the
--         failover that made this server the master (20 digits; nothing without Sentinels); the time that the server's
--         clock should show (ms) and how far it may be off (ms); '1' if counts that were lost are accepted; how long the sets
--         are kept (ms); and for either set: how many deletions in how long (µs; '0' if that is not limited), and how many
--         are kept ('0' if they are not counted)
-- Every answer names what was asked and the number.
local function answer(word, wait)
    return word .. ' ' .. ARGV[1] .. ' ' .. ARGV[2] .. (wait and string.format(' %.0f', wait) or '')
end
local witness = redis.call('GET', KEYS[1])
if not witness then return answer('FORGOT') end
local version, history, floor, future, epoch =
    string.match(witness, '^([12]) %x+ (%x+) (%d+) %d+ (%d+) ?(%d*)$')
if not history or (version == '2') ~= (epoch ~= '') then return answer('VERSION') end
-- Vouched for under another failover than the gateway knows, or another history of the data than the one that was vouched
-- for: as for a claim.
if epoch ~= ARGV[3] then return answer('FORGOT') end
if not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. history, 1, true) then return answer('FORGOT') end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if math.abs(now / 1000 - ARGV[4]) > tonumber(ARGV[5]) then return answer('CLOCK') end
-- Each loss of data begins a fence, which ends at the floor: what was counted before it began is not known. Without its last
-- three digits the floor is in µs, a number that Lua has exactly.
local complete = string.sub(floor, 1, -4) - future * 1000
local lost, wait = 0, 0
for n = 1, 2 do
    local limit, span = tonumber(ARGV[3 * n + 5]), tonumber(ARGV[3 * n + 6])
    if limit > 0 then
        if ARGV[6] ~= '1' then lost = math.max(lost, complete + span - now) end
        -- With `limit` deletions, the oldest of the last `limit` decides. With fewer, it is the newest of those that were not
        -- kept one by one: before it may have been more.
        local decides = redis.call('ZRANGE', KEYS[n + 1], -limit, -limit, 'WITHSCORES')[2]
            or redis.call('ZSCORE', KEYS[n + 1], '-')
        if decides then wait = math.max(wait, decides + span - now) end
    end
end
if lost > 0 then return answer('LOST', math.max(lost, wait)) end
if wait > 0 then return answer('EXCEEDED', wait) end
if ARGV[1] ~= 'take' then return answer('ALLOWED') end
for n = 1, 2 do
    local kept = tonumber(ARGV[3 * n + 7])
    if kept > 0 then
        local set = KEYS[n + 1]
        -- No deletion is older than one before it, also if the clock was set back.
        local newest = redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')[2]
        redis.call('ZADD', set, string.format('%.0f', math.max(now, newest or 0)), ARGV[2])
        local last = redis.call('ZCARD', set) - kept - 1
        if last >= 0 then
            local dropped = redis.call('ZRANGE', set, last, last, 'WITHSCORES')[2]
            redis.call('ZREMRANGEBYRANK', set, 0, last)
            redis.call('ZADD', set, dropped, '-')
        end
        redis.call('PEXPIRE', set, ARGV[7])
    end
end
return answer('ALLOWED')
