--- include: lib/base
-- Forget a file whose content is gone, and give its room back.
-- ARGV: id, tenant, bytes.
-- Returns 'deleted', also where an earlier call did it, or 'used' where batches read it.
local id, tenant, bytes = ARGV[1], ARGV[2], tonumber(ARGV[3])
local sizes, index, member = key.filesizes(), key.files(tenant), id .. ' ' .. tenant .. ' ' .. int(bytes)
if tonumber(redis.call('HGET', key.file(id), 'readers') or 0) > 0 then return 'used' end
redis.call('DEL', key.file(id))
redis.call('ZREM', index, id)
if redis.call('ZREM', key.expiringfiles(), member) == 0 then return 'deleted' end
redis.call('HINCRBY', sizes, 'total', int(-bytes))
if redis.call('HINCRBY', sizes, 'files ' .. tenant, -1) <= 0 then
  redis.call('HDEL', sizes, 'files ' .. tenant, 'bytes ' .. tenant)
else
  redis.call('HINCRBY', sizes, 'bytes ' .. tenant, int(-bytes))
end
return 'deleted'
