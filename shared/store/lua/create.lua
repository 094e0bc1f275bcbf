--- include: lib/flights, lib/breaker, lib/drain, lib/rates
-- Take a job in: idempotency, admission, record, request, lane, index, first event.
-- ARGV: one list, packed as msgpack, since thirty arguments by themselves cost more to send and to take apart:
--   id, lifetime (ms to the deadline), max_queued, idempotency digest or '', body digest,
--   idempotency ttl (s), whether to refuse the job while the model's breaker keeps it from running, how many jobs of
--   the tenant may wait, whether a text in its output is streamed, the output and the usage of the result if the
--   caller knows it already, else '', what the request is charged (lib/rates.lua) or false, the request, what it shares
--   with others (lib/flights.lua) or '', whether who makes it waits for its end alone (`home`), how many bytes the
--   tenant may hold (lib/storage.lua) or 0, how many the job takes beside JOB_BYTES, what it is expected to write among
--   them, whether the idempotency key is to name this job whatever it named before, within how many ms
--   of its end a job that the key names stands for this one even so, 0: none does, what its client asked or '', and
--   the record's fields, each behind its name: model, tenant, class, cost, and what else there is.
-- Returns, packed as msgpack, since Redis writes each item of an array to the socket by itself:
--   {'created', ring, created_ms, jobs before it, estimated start (ms) or -1 | nothing of both if an earlier call
--   made it} | {'follows', 0, created_ms} | {'replayed', id} | {'mismatch', id},
--   {'cached', created_ms, output, usage}: it has ended with that result, or a refusal with the ms
--   after which to try again, 0 where that is not known: {'unavailable', ms} |
--   {'queue_full' | 'tenant_queue_full' | 'deadline', ms, how many wait | ms of the estimated wait},
--   {'storage_full', ms, bytes that the tenant holds}, or
--   {'limited'}; last of all, where there are charges, the table of how the client stands with each policy.
local ask = cmsgpack.unpack(ARGV[1])
local id, lifetime, max_queued, digest, body, idem_ttl, urgent, tenant_max, speaks = unpack(ask, 1, 9)
local known, known_usage, charges, request, share, home, most_bytes, bytes = unpack(ask, 10, 17)
local takes_key, joins, asked, fields = unpack(ask, 18, 21)
local model, tenant, class, cost = fields[2], fields[4], fields[6], fields[8]
bytes = JOB_BYTES + bytes
local queue, lane_cost_field = key.queue(model), 'cost:' .. class .. ':' .. tenant
local INDEX_MAX, INDEX_PIECE = 1000000, 256
local NEXT_PROBE_MS = 1000
local DEADLINE_MARGIN = 2
local RENEW_MS = 3600000  -- A fraction of the horizon.

local now = now_ms()
local born = redis.call('HMGET', key.job(id), 'created', 'state', 'cached', 'output', 'usage', 'output_of')
local quota_rows
local function answer(reply)
  write_tallies()
  reply[#reply + 1] = quota_rows
  return cmsgpack.pack(reply)
end

if charges then
  local admitted
  admitted, quota_rows = charge_rates(charges, now, born[1])
  if not admitted and not born[1] then return answer({'limited'}) end
end
if born[1] then
  if born[2] == 'succeeded' and born[3] then
    local output, usage = born[4], born[5]
    if born[6] then output, usage = outputs().referred(born[6]) end
    return answer({'cached', born[1], output, usage})
  end
  return answer({'created', 0, born[1]})
end

local drained, drain_ms, from, seen, waiting, renewed, arrivals, lane_costs =
  drain_state(model, 'renewed', 'arrivals', lane_cost_field)
local rate, plain_rate = pace(now, drained, drain_ms, from, seen)
local renew = now - renewed > RENEW_MS
local seq = int(arrivals + 1)

-- Whether a job that the key names is to be answered in place of this one.
local function stands(first)
  if not takes_key then return redis.call('EXISTS', key.job(first)) == 1 end
  local state, finished, unwanted =
    unpack(redis.call('HMGET', key.job(first), 'state', 'finished', 'cancel_requested'))
  if state == 'queued' or state == 'running' then return unwanted ~= '1' end
  return (state == 'succeeded' or state == 'failed') and now - finished < joins
end

if digest ~= '' and (joins > 0 or not takes_key) then
  local before = redis.call('GET', key.idem(tenant, digest))
  if before then
    local first, same = string.match(before, '^(%S+) (%S+)$')
    if stands(first) then
      if same == body then return answer({'replayed', first}) end
      return answer({'mismatch', first})
    end
  end
end

local ttl = math.ceil(lifetime / 1000) + RETENTION
local deadline = int(now + lifetime)

-- What the job makes its tenant hold, and whether that one holds too much already.
local second, bytes_key = math.floor(now / 1000), key.bytes(tenant)
local goes = going(now / 1000, (now + lifetime) / 1000 + RETENTION)
local key_goes = digest ~= '' and going(now / 1000, now / 1000 + idem_ttl) or goes
local held = redis.call('HMGET', bytes_key, 'total', 'next', goes, key_goes)
local total, first = tonumber(held[1] or 0), tonumber(held[2] or goes)
if first <= second then
  total, first = sum_up(bytes_key, second)
  if first == 0 then first = goes end
end
if most_bytes > 0 and total >= most_bytes then
  return answer({'storage_full', until_room(bytes_key, total, most_bytes, second), total})
end

-- Take the oldest ids off the tenant's index: those beyond the bound, and a piece of those that no longer have a job.
local function trim_index()
  redis.call('ZREMRANGEBYRANK', key.index(tenant), 0, -INDEX_MAX - 1)
  local oldest = redis.call('ZRANGE', key.index(tenant), INDEX_PIECE - 1, INDEX_PIECE - 1)[1]
  if oldest and oldest < string.format('job_%012x', now - 1000 * HORIZON) then
    redis.call('ZREMRANGEBYRANK', key.index(tenant), 0, INDEX_PIECE - 1)
  end
end

-- Write down all that a job has from birth, in whatever way it comes to its end, and the fields of the queue
-- that change with it.
local function insert_job(estimate, ...)
  redis.call('HSET', queue, 'arrivals', seq, ...)
  local of_key = digest ~= '' and IDEMPOTENCY_BYTES or 0
  local sum = tonumber(held[3] or 0) + bytes
  if key_goes == goes then sum = sum + of_key end
  redis.call('HSET', bytes_key, 'total', int(total + bytes + of_key), 'next', int(math.min(first, goes, key_goes)),
    key_goes, int(tonumber(held[4] or 0) + of_key), goes, int(sum))
  if not (held[3] and held[4]) then redis.call('EXPIRE', bytes_key, HORIZON) end
  local record = key.job(id)
  redis.call('HSET', record, 'state', 'queued', 'seq', seq, 'created', int(now), 'deadline', deadline,
    'attempt', '0', 'head', CREATED, 'bytes', int(bytes), unpack(fields))
  if estimate then redis.call('HSET', record, 'estimate', int(estimate)) end
  if asked ~= '' then
    redis.call('HSET', record, 'asked', #asked)
    redis.call('SET', key.asked(id), asked, 'EX', int(ttl))
  end
  redis.call('EXPIRE', record, int(ttl))
  redis.call('ZADD', key.index(tenant), 0, id)
  -- Nobody knows of it yet but who makes it, and that one waits for the end alone if it has a `home`.
  local job = {changes = {}, id = id, model = model, tenant = tenant, class = class, state = 'queued',
    cost = cost, seq = seq, attempt = 0, head = '0-0', created = now, deadline = deadline}
  if home then job.head = CREATED else publish(job, CREATED, 'status', CREATED_DATA) end

  if renew then
    redis.call('ZADD', key.models(), int(now), model)
    redis.call('EXPIRE', key.models(), HORIZON)
    redis.call('HSET', queue, 'renewed', int(now))
    redis.call('EXPIRE', queue, HORIZON)
  end
  if seq % 64 == 0 then trim_index() end
  if digest ~= '' then redis.call('SET', key.idem(tenant, digest), id .. ' ' .. body, 'EX', idem_ttl) end
  return job
end

-- What a job needs that does not end at once: its request, and somebody who minds its deadline.
local function await_worker()
  redis.call('SET', key.request(id), request, 'EX', int(ttl))
  redis.call('ZADD', key.deadlines(model), deadline, id)
  -- While others wait it is there, and has its expiry.
  if renew or waiting == 0 then redis.call('EXPIRE', key.deadlines(model), HORIZON) end
end

if share ~= '' then
  local output, usage, refers = known, known_usage
  if output ~= '' then
    usage = outputs().borrowed(usage)
    refers = outputs().brought((flights().what(share)), id, output, usage)
  else
    output, usage, refers = flights().recall(tenant, share, now)
  end
  if output then
    insert_job()
    keep(key.index(tenant), HORIZON)
    local job = load(id)
    job.home = nil  -- The answer to this call says it all.
    -- Nobody reads its events before it has ended, and its record can tell them all.
    job.unlogged = '1'
    put(job, 'unlogged', '1')
    if speaks then job.head = '0-' .. int(1 + outputs().speaks_of(refers, output)) end
    flights().lend(job, now, output, usage, RETENTION, refers)
    add(statistics().minute(model, now), 'hits', 1)
    return answer({'cached', int(now), output, usage})
  end
end

local state = urgent and redis.call('HGET', key.breaker(model), 'state')
if state and state ~= 'closed' then
  local tripped = breaker().load(model)
  local wait = breaker().wait(tripped, now)
  -- In half-open the first of those who wait will be the probe; only with nobody there it is this one.
  if wait == 0 and tripped.state ~= 'closed' and waiting > 0 then wait = NEXT_PROBE_MS end
  if wait > 0 then return answer({'unavailable', wait}) end
end
if share ~= '' then
  local flight, leader = flights().open_flight(tenant, share, class, now)
  if flight then
    local job = insert_job()
    keep(key.index(tenant), HORIZON)
    put(job, 'follows', flight)
    await_worker()
    flights().join(job, flight, leader, ttl)
    add(statistics().minute(model, now), 'shared', 1)
    return answer({'follows', 0, int(now)})
  end
end
if waiting >= max_queued then
  return answer({'queue_full', estimates().until_drained(rate, waiting - max_queued + 1), waiting})
end
if waiting >= tenant_max then
  local own, sharing = 0, 0
  for _, c in ipairs(CLASSES) do
    own = own + redis.call('ZCARD', key.lane(model, c, tenant))
    sharing = math.max(sharing, redis.call('ZCARD', key.active(model, c)))
  end
  if own >= tenant_max then
    return answer({'tenant_queue_full', estimates().until_drained(rate, (own - tenant_max + 1) * sharing), own})
  end
end

local ahead, estimate = 0
if waiting > 0 then
  ahead = redis.call('ZCARD', key.lane(model, class, tenant))
  -- Where nobody waits in another lane, those in its own are all.
  if ahead < waiting then ahead = estimates().jobs_ahead(model, class, tenant, ahead) end
  if rate then
    local wait = (ahead + 1) / plain_rate
    if wait > DEADLINE_MARGIN * lifetime then
      return answer({'deadline', math.ceil(wait - DEADLINE_MARGIN * lifetime), math.ceil(wait)})
    end
    estimate = math.floor(now + (ahead + 1) / rate)
  end
end

local job = insert_job(estimate, 'depth', int(waiting + 1), lane_cost_field, int(lane_costs + cost))
if share ~= '' then
  flights().point_to(job, (flights().what(share)))
  add(statistics().minute(model, now), 'misses', 1)
end
await_worker()
enqueue(job)
notify_one(model)
local ring = drains_at_work(model, now) > 0 and 0 or should_notify(model)
return answer({'created', ring, int(now), ahead, estimate or rate and math.floor(now + 1 / rate) or -1})
