--- include: lib/base
-- Write down a file whose content is stored, if its tenant and the storage have room for it.
-- ARGV: id, tenant, bytes, seconds until it expires, how long its record is kept (s), most bytes of the tenant, most
--   files of the tenant, most bytes of all, then the record's fields, each behind its name.
-- Returns {'created'}, also where an earlier call made it, or {'bytes' | 'files' | 'total', how much there is}.
local id, tenant, bytes = ARGV[1], ARGV[2], tonumber(ARGV[3])
local expires, kept = tonumber(ARGV[4]), tonumber(ARGV[5])
local sizes, index, expiring = key.filesizes(), key.files(tenant), key.expiringfiles()
if redis.call('EXISTS', key.file(id)) == 1 then return {'created'} end

local held = redis.call('HMGET', sizes, 'total', 'bytes ' .. tenant, 'files ' .. tenant)
local total, own, count = tonumber(held[1] or 0), tonumber(held[2] or 0), tonumber(held[3] or 0)
if own + bytes > tonumber(ARGV[6]) then return {'bytes', own} end
if count >= tonumber(ARGV[7]) then return {'files', count} end
if total + bytes > tonumber(ARGV[8]) then return {'total', total} end

redis.call('HSET', key.file(id), unpack(ARGV, 9))
redis.call('EXPIRE', key.file(id), int(kept))
redis.call('ZADD', index, 0, id)
redis.call('ZADD', expiring, int(now_ms() + expires * 1000), id .. ' ' .. tenant .. ' ' .. int(bytes))
redis.call('HSET', sizes, 'total', int(total + bytes), 'bytes ' .. tenant, int(own + bytes),
  'files ' .. tenant, int(count + 1))
-- What is counted must live as long as any file.
for _, k in ipairs({index, expiring, sizes}) do
  if redis.call('TTL', k) < kept then redis.call('EXPIRE', k, int(kept)) end
end
return {'created'}
