--- include: lib/base
-- Write down a change by an administrator, and forget those that are too old or too many.
-- ARGV: id, tenant, the change as JSON, how long it is kept (s), how many of its kind are kept of the tenant and of all,
--   the id before which all are too old, its kind.
write_though_full()
local id, tenant, kept = ARGV[1], ARGV[2], tonumber(ARGV[4])
local all, own = key.audit(ARGV[8]), key.auditof(ARGV[8], tenant)
redis.call('SET', key.auditentry(id), ARGV[3], 'EX', int(kept))
for _, index in ipairs({{own, tonumber(ARGV[5])}, {all, tonumber(ARGV[6])}}) do
  local k, most = index[1], index[2]
  redis.call('ZADD', k, 0, id)
  redis.call('ZREMRANGEBYLEX', k, '-', '(' .. ARGV[7])
  redis.call('EXPIRE', k, int(kept))
  local over = math.min(redis.call('ZCARD', k) - most, 1000)
  if over > 0 then
    -- Of another tenant's the id stays in that one's index, and is passed over by who reads it.
    for _, old in ipairs(redis.call('ZRANGE', k, 0, over - 1)) do
      redis.call('DEL', key.auditentry(old))
      redis.call('ZREM', all, old)
      redis.call('ZREM', own, old)
    end
  end
end
