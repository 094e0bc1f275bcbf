--- include: lib/flights
-- Takes back what was written for a job whose creation fails, such as for want of a right: its client is told so, and
-- then neither its idempotency key nor a repeated call may find a job that stands in no lane. Every step is tried,
-- whatever becomes of the others: what failed once may fail again. What the request was charged stays charged.

local withdrawal = lazy(function()
  local function copy_of(sums)
    local copy = {}
    for name, n in pairs(sums) do copy[name] = n end
    return copy
  end

  -- What is to be written of sums and of the tenant's bytes, as it is now.
  local function deferred(tenant)
    local ledger, all = ledger_of(tenant), {}
    for i, counts in ipairs(tallies) do all[i] = copy_of(counts.sums) end
    return {tallies = all, sums = copy_of(ledger.sums), added = ledger.added}
  end

  -- Drop what was added since; nil: since the call began.
  local function restore(tenant, before)
    before = before or {tallies = {}, sums = {}, added = 0}
    for i, counts in ipairs(tallies) do
      for field in pairs(counts.sums) do counts.sums[field] = before.tallies[i] and before.tallies[i][field] end
    end
    local ledger = ledger_of(tenant)
    ledger.sums, ledger.added = before.sums, before.added
  end

  local function leave_flight(job, digest)
    local followed, reference = unpack(redis.call('HMGET', key.job(job.id), 'follows', 'output_of'))
    if followed then redis.call('ZREM', key.followers(followed), job.id) end
    if reference then outputs().release(reference, job.tenant, seconds_now()) end
    if redis.call('HGET', key.flights(job.tenant), digest) == job.id then
      redis.call('HDEL', key.flights(job.tenant), digest)
    end
  end

  local function leave_idempotency_key(job, digest)
    local named = redis.call('GET', key.idem(job.tenant, digest))
    if named and string.match(named, '^%S+') == job.id then redis.call('DEL', key.idem(job.tenant, digest)) end
  end

  -- `job`: its id, model, tenant and class. `digest`: of its idempotency key, or ''; `asks`: of what it shares, or nil.
  local function withdraw(job, digest, asks)
    if asks then pcall(leave_flight, job, asks) end
    if digest ~= '' then pcall(leave_idempotency_key, job, digest) end
    redis.pcall('ZREM', key.index(job.tenant), job.id)
    redis.pcall('ZREM', key.deadlines(job.model), job.id)
    redis.pcall('ZREM', key.lane(job.model, job.class, job.tenant), job.id)
    redis.pcall('DEL', key.job(job.id), key.request(job.id), key.asked(job.id), key.log(job.id))
    redis.pcall('DEL', key.bell(job.model))  -- Whoever makes the next job rings: nobody rings for this one.
  end

  return {deferred = deferred, restore = restore, withdraw = withdraw}
end)
