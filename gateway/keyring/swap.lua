-- Puts a record in the place of the version it was made from. KEYS: records, uses. ARGV: field, that version (0: no
-- record), the new record ("": none), the new revision. Gives 1, or 0 when another version is there.
local current = redis.call('HGET', KEYS[1], ARGV[1])
local version = 0
if current then
    version = cjson.decode(current).version
end
if version ~= tonumber(ARGV[2]) then
    return 0
end
if ARGV[3] == '' then
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('HDEL', KEYS[2], ARGV[1])
else
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
redis.call('HSET', KEYS[1], 'revision', ARGV[4])
return 1
