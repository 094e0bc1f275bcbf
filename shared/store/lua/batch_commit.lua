--- include: lib/base
-- Write down a step of a batch, all of it or nothing.
-- ARGV: id, fence, the status that the batch must have, in how many ms it is due again, how long its record is kept (s)
--   once it is closed, '1' to close it, then by their numbers: fields and values, lines whose jobs were made and where
--   they stand, lines that were gathered, names of parts, how many of those lines succeeded, and how many did not.
-- Returns 'done', 'fenced': somebody else has it now, or the other status that it has.
local id, kept, closes = ARGV[1], tonumber(ARGV[5]), ARGV[6] == '1'
local record, live, parts = key.batch(id), key.batchlive(id), key.batchparts(id)
local held = redis.call('HMGET', record, 'fence', 'status', 'tenant', 'input_file')
if held[1] ~= ARGV[2] then return 'fenced' end
if held[2] ~= ARGV[3] then return held[2] end

local at = 7
local function take(write)
  local n = tonumber(ARGV[at])
  if n > 0 then write(at + 1, at + n) end
  at = at + n + 1
end
take(function(from, to) redis.call('HSET', record, unpack(ARGV, from, to)) end)
take(function(from, to) redis.call('HSET', live, unpack(ARGV, from, to)) end)
take(function(from, to) redis.call('HDEL', live, unpack(ARGV, from, to)) end)
take(function(from, to) redis.call('RPUSH', parts, unpack(ARGV, from, to)) end)
for i, name in ipairs({'done', 'bad'}) do
  local n = tonumber(ARGV[at + i - 1])
  if n > 0 then redis.call('HINCRBY', record, name, n) end
end

local open, own, due = key.openbatches(), key.tenantopen(held[3]), now_ms() + tonumber(ARGV[4])
if closes then
  redis.call('ZREM', open, id)
  redis.call('ZREM', own, id)
  redis.call('DEL', live, parts)
  if redis.call('EXISTS', key.file(held[4])) == 1 then redis.call('HINCRBY', key.file(held[4]), 'readers', -1) end
  redis.call('EXPIRE', record, int(kept))
else
  redis.call('ZADD', open, 'XX', int(due), id)
  local ttl = redis.call('TTL', record)
  for _, k in ipairs({live, parts}) do
    if redis.call('TTL', k) == -1 then redis.call('EXPIRE', k, ttl) end
  end
end
return 'done'
