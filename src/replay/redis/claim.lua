-- Spends a salt. Everything is judged here, in one step on the one server that holds both keys.
--   KEYS: the salt, the witness of its slot, and for a fleet's share of the key: how many salts of it end when
--   ARGV: its date (20 digits of nanoseconds), how long it is kept (ms), the window (past and
--         future, ms), the gateway's clock (ms), how far clocks may differ (ms), the number of this claim,
--         the mark of its request, the epoch since which this server is the master (20 digits; nothing
--         without Sentinels or a cluster), how many salts a key may hold, if there is a third key
-- Every answer names the salt's key and the number of the claim: one that was meant for another claim, by
-- whatever mistake, is not taken for this one's.
local function answer(word, more)
    return word .. ' ' .. KEYS[1] .. ' ' .. ARGV[7] .. (more or '')
end
local witness = redis.call('GET', KEYS[2])
if not witness then return answer('FORGOT') end
local version, history, floor, past, future, epoch =
    string.match(witness, '^([12]) %x+ (%x+) (%d+) (%d+) (%d+) ?(%d*)$')
if not history or (version == '2') ~= (epoch ~= '') then return answer('VERSION') end
local mine = ARGV[9] or ''
if epoch ~= '' and mine == '' then return answer('VERSION') end
-- Vouched for under another failover than the gateway knows: another master may have spent salts since.
if epoch ~= mine then return answer('FORGOT') end
-- Another history of the data than the one that was vouched for: a restart, a failover.
if not string.find(redis.call('INFO', 'replication'), 'master_replid:' .. history, 1, true) then return answer('FORGOT') end
if past ~= ARGV[3] or future ~= ARGV[4] then return answer('WINDOW', ' ' .. past .. ' ' .. future) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ahead = now - ARGV[5]
if math.abs(ahead) > tonumber(ARGV[6]) then return answer('CLOCK') end
-- Of one length, so they compare as numbers would, had numbers here that many digits.
if ARGV[1] <= floor then return answer('FLOOR', ' ' .. floor) end
-- Salts are counted in sixteenths of the window: each counts until the one in which it ends is over.
local share, part, over = KEYS[3], math.ceil((ARGV[3] + ARGV[4]) / 16), {}
if share then
    local parts, held = redis.call('HGETALL', share), 0
    for n = 1, #parts, 2 do
        if (parts[n] + 1) * part <= now then table.insert(over, parts[n]) else held = held + parts[n + 1] end
    end
    -- A salt that is spent already is a replay, whatever its key holds.
    if held >= tonumber(ARGV[10]) and redis.call('EXISTS', KEYS[1]) == 0 then return answer('SHARE') end
end
if redis.call('SET', KEYS[1], ARGV[8], 'NX', 'PX', ARGV[2]) then
    if share then
        redis.call('HINCRBY', share, string.format('%.0f', math.floor((now + ARGV[2]) / part)), 1)
        if #over > 0 then redis.call('HDEL', share, unpack(over)) end
        redis.call('PEXPIRE', share, ARGV[3] + ARGV[4] + 2 * ARGV[6] + 2 * part)
    end
    return answer('SPENT')
end
local mark = redis.call('GET', KEYS[1])
if not mark or mark == '' then return answer('REUSED') end
return answer('REUSED', ' ' .. mark)
