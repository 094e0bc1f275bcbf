--- include: lib/base
-- Take a batch in.
-- ARGV: id, tenant, input file, how long its record is kept (s), most open batches of the tenant, digest of the request
--   or '', how long that is kept (s), '1' if the request is a retry, which joins the batch that the same one made before,
--   then the record's fields, each behind its name.
-- Returns {'created', id}, {'replayed', id}, {'no_file'}, or {'too_many', how many are open}.
local id, tenant, file, kept = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local digest, open, own = ARGV[6], key.openbatches(), key.tenantopen(tenant)
if redis.call('EXISTS', key.batch(id)) == 1 then return {'created', id} end
if digest ~= '' and ARGV[8] == '1' then
  local before = redis.call('GET', key.batchasked(tenant, digest))
  if before and redis.call('EXISTS', key.batch(before)) == 1 then return {'replayed', before} end
end
if redis.call('HGET', key.file(file), 'tenant') ~= tenant then return {'no_file'} end
local count = redis.call('ZCARD', own)
if count >= tonumber(ARGV[5]) then return {'too_many', count} end

redis.call('HSET', key.batch(id), unpack(ARGV, 9))
redis.call('EXPIRE', key.batch(id), int(kept))
redis.call('HINCRBY', key.file(file), 'readers', 1)
local now = int(now_ms())
redis.call('ZADD', key.batches(tenant), 0, id)
redis.call('ZADD', own, now, id)
redis.call('ZADD', open, now, id)
for _, k in ipairs({key.batches(tenant), own, open}) do
  if redis.call('TTL', k) < kept then redis.call('EXPIRE', k, int(kept)) end
end
if digest ~= '' then redis.call('SET', key.batchasked(tenant, digest), id, 'EX', ARGV[7]) end
return {'created', id}
