-- What is frozen for the fleet, and which gateways know it.
--   KEYS: a hash with the version and the state, and a field for each gateway
--   ARGV: what to do, the number of this question, and
--         read: the gateway's id and name, the version from which on none of its deletions is under way, the version and
--               the state that it holds
--         replace: the version that is replaced, the next state
-- Every answer begins with the number.
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] == 'read' then
    -- Data was lost, or a failover went back to an older state: the gateways still know it.
    if tonumber(ARGV[6]) > version then
        version = tonumber(ARGV[6])
        redis.call('HSET', KEYS[1], 'version', ARGV[6], 'state', ARGV[7])
    end
    redis.call('HSET', KEYS[1], 'gateway:' .. ARGV[3], string.format('%.0f %s %s', now, ARGV[5], ARGV[4]))
    return {ARGV[2], string.format('%.0f', version), redis.call('HGET', KEYS[1], 'state') or ''}
end
if ARGV[1] == 'replace' then
    if tonumber(ARGV[3]) ~= version then return {ARGV[2], '0'} end
    redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version + 1), 'state', ARGV[4])
    return {ARGV[2], '1'}
end
local answer = {ARGV[2], string.format('%.0f', version)}
local fields = redis.call('HGETALL', KEYS[1])
for n = 1, #fields, 2 do
    if string.sub(fields[n], 1, 8) == 'gateway:' then
        local at, cleared, name = string.match(fields[n + 1], '^(%d+) (%d+) (.*)$')
        local silent = at and math.max(now - at, 0) or 0
        if silent > 3600000 then
            redis.call('HDEL', KEYS[1], fields[n])
        else
            table.insert(answer, string.format('%.0f %s %s', silent, cleared or '0', name or fields[n]))
        end
    end
end
return answer
