-- All records in one string, a line each, and their revision: what a client reads far faster than thousands of fields.
-- KEYS: records.
local found = redis.call('HGETALL', KEYS[1])
local records = {}
local revision = ''
for i = 1, #found, 2 do
    if found[i] == 'revision' then
        revision = found[i + 1]
    else
        records[#records + 1] = found[i + 1]
    end
end
return {revision, table.concat(records, '\n')}
