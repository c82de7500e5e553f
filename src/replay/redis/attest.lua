-- Vouches for one slot: from the floor in its witness on, this server remembers every salt.
--   KEYS: the witness
--   ARGV: the window (past and future, ms), the floor if there is no witness, the floor if there
--         is one of another history, '1' if the witness is not to be believed, the number of this question, the
--         epoch since which this server is the master (20 digits; nothing without Sentinels or a cluster), the gateway's
--         clock (ms), how far clocks may differ (ms)
-- Every answer names the witness and the number, as those of a claim do.
local function answer(word, more)
    return word .. ' ' .. KEYS[1] .. ' ' .. ARGV[6] .. (more or '')
end
local info = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
local run = string.match(info, 'run_id:(%x+)')
local history = string.match(info, 'master_replid:(%x+)')
local witness = redis.call('GET', KEYS[1])
local floor = ARGV[3]
local mine = ARGV[7] or ''
local function vouch()
    local parts = {mine == '' and '1' or '2', run, history, floor, ARGV[1], ARGV[2]}
    if mine ~= '' then table.insert(parts, mine) end
    redis.call('SET', KEYS[1], table.concat(parts, ' '))
end
-- A new floor is counted from the gateway's clock. One that is wrong, or a question that was under way for long, would
-- set one that covers too little.
local function is_apart()
    local time = redis.call('TIME')
    return math.abs(time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[8]) > tonumber(ARGV[9])
end
if witness then
    local version, r, h, f, past, future, epoch =
        string.match(witness, '^([12]) (%x+) (%x+) (%d+) (%d+) (%d+) ?(%d*)$')
    if not h or (version == '2') ~= (epoch ~= '') then return answer('VERSION') end
    -- A gateway that knows no failovers would believe what an old master says.
    if epoch ~= '' and mine == '' then return answer('VERSION') end
    -- Of one length, so they compare as numbers would.
    if epoch > mine then return answer('LATER', ' ' .. epoch) end
    if past ~= ARGV[1] or future ~= ARGV[2] then return answer('WINDOW', ' ' .. past .. ' ' .. future) end
    -- A server names its history anew, and leaves no earlier name, when its first replica comes
    -- and an hour after its last one left. Nothing is lost by that.
    local renamed = r == run and epoch == mine and string.match(info, 'master_replid2:0+%s')
    floor = f
    if h == history and epoch == mine and ARGV[5] ~= '1' then
        -- Written again as it is: a server that cannot be written is found before a claim meets it. One without
        -- memory is found by its memory.
        local written = redis.pcall('SET', KEYS[1], witness)
        if written.err and not string.find(written.err, 'OOM', 1, true) then return written end
        return answer('OK', ' ' .. floor)
    end
    if (not renamed or ARGV[5] == '1') and ARGV[4] > floor then floor = ARGV[4] end
    if renamed and ARGV[5] ~= '1' then
        vouch()
        return answer('OK', ' ' .. floor)
    end
    -- What is attested may get a higher floor in any case.
    if is_apart() and h == history and epoch == mine then vouch() end
end
if is_apart() then return answer('CLOCK') end
vouch()
return answer('RAISED', ' ' .. floor)
