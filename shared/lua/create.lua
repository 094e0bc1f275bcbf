-- Take a job in: idempotency, admission, record, request, lane, index, first event.
-- ARGV: id, model, tenant, class, cost, lifetime (ms to the deadline), retention (s), max_queued,
--   idempotency digest or '', body digest, idempotency ttl (s), '1' to refuse the job while the
--   model's breaker keeps it from running, how many jobs of the tenant may wait, what it shares with
--   others (flights.lua) or '', '1' if a text in its output is streamed, the output and the usage of the
--   result if the caller knows it already, else '', what the request is charged (rates.lua) or '', the
--   request, then pairs of record fields.
-- Returns, packed as msgpack (lib.lua says why), {'created', ring, created_ms, jobs before it, estimated start (ms) or -1 | nothing of both if an
--   earlier call made it} | {'follows', 0, created_ms} | {'replayed', id} | {'mismatch', id},
--   {'cached', created_ms, output, usage}: it has ended with that result, or a refusal with the ms
--   after which to try again, 0 where that is not known: {'unavailable', ms} |
--   {'queue_full' | 'tenant_queue_full' | 'deadline', ms, how many wait | ms of the estimated wait}, or
--   {'limited'}; last of all, where there are charges, the table of how the client stands with each policy.
-- Rarely: borrowed, lend, join, load_breaker, breaker_wait
local id, model, tenant, class, cost = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lifetime, retention = tonumber(ARGV[6]), tonumber(ARGV[7])
local max_queued = tonumber(ARGV[8])
local digest, body, idem_ttl, urgent = ARGV[9], ARGV[10], ARGV[11], ARGV[12] == '1'
local tenant_max = tonumber(ARGV[13])
local share, speaks, known, known_usage = ARGV[14], ARGV[15] == '1', ARGV[16], ARGV[17]
local charges, request = ARGV[18], ARGV[19]
local NEXT_PROBE_MS = 1000
local DEADLINE_MARGIN = 2
local RENEW_MS = 3600000  -- A fraction of the horizon.

local now = now_ms()
local born = redis.call('HMGET', key.job(id), 'created', 'state', 'cached', 'output', 'usage')
local standings
local function told(reply)
  settle()
  reply[#reply + 1] = standings
  return cmsgpack.pack(reply)
end

if charges ~= '' then
  local admitted
  admitted, standings = charge_rates(charges, now, born[1])
  if not admitted and not born[1] then return told({'limited'}) end
end
if born[1] then
  if born[2] == 'succeeded' and born[3] then return told({'cached', born[1], born[4], born[5]}) end
  return told({'created', 0, born[1]})
end

local rate, plain_rate, waiting, renewed = drain_rate(model, now)
local renew = now - renewed > RENEW_MS

if digest ~= '' then
  local before = redis.call('GET', key.idem(tenant, digest))
  if before then
    local first, same = string.match(before, '^(%S+) (%S+)$')
    if redis.call('EXISTS', key.job(first)) == 1 then
      if same == body then return told({'replayed', first}) end
      return told({'mismatch', first})
    end
  end
end

local ttl = math.ceil(lifetime / 1000) + retention

-- Write down all that a job has from birth, in whatever way it comes to its end.
local function bear(estimate)
  local seq = redis.call('HINCRBY', key.queue(model), 'arrivals', 1)
  local fields = {'model', model, 'tenant', tenant, 'class', class, 'state', 'queued',
    'seq', int(seq), 'cost', cost, 'created', int(now), 'deadline', int(now + lifetime),
    'attempt', '0', 'failures', '0', 'crashes', '0', 'head', BIRTH}
  local home = false
  if estimate then
    fields[#fields + 1] = 'estimate'
    fields[#fields + 1] = int(estimate)
  end
  if share ~= '' then
    fields[#fields + 1] = 'share'
    fields[#fields + 1] = share
  end
  for i = 20, #ARGV do
    home = home or ARGV[i] == 'home'
    fields[#fields + 1] = ARGV[i]
  end
  redis.call('HSET', key.job(id), unpack(fields))
  redis.call('EXPIRE', key.job(id), int(ttl))

  local job = {changes = {}, id = id, model = model, tenant = tenant, class = class, state = 'queued',
    cost = cost, seq = int(seq), attempt = 0, head = '0-0'}
  -- Nobody knows of it yet but who makes it, and that one waits for the end alone if it has a `home`.
  if home then job.head = BIRTH else say(job, BIRTH, 'status', BORN) end

  if renew then
    redis.call('ZADD', key.models(), int(now), model)
    redis.call('EXPIRE', key.models(), int(HORIZON))
    redis.call('HSET', key.queue(model), 'renewed', int(now))
    redis.call('EXPIRE', key.queue(model), int(HORIZON))
  end
  local index = key.index(tenant)
  redis.call('ZADD', index, 0, id)
  if seq % 64 == 0 then redis.call('ZREMRANGEBYRANK', index, 0, -INDEX_MAX - 1) end
  keep(index, HORIZON)
  if digest ~= '' then redis.call('SET', key.idem(tenant, digest), id .. ' ' .. body, 'EX', idem_ttl) end
  return job
end

-- What a job needs that does not end at once: its request, and somebody who minds its deadline.
local function await_worker()
  redis.call('SET', key.request(id), request, 'EX', int(ttl))
  redis.call('ZADD', key.deadlines(model), int(now + lifetime), id)
  -- While others wait it is there, and has its expiry.
  if renew or waiting == 0 then redis.call('EXPIRE', key.deadlines(model), int(HORIZON)) end
end

if share ~= '' then
  local output, usage = known, known_usage
  if output == '' then output, usage = recall(tenant, share, now) end
  if output then
    rarely()
    bear()
    local job = load(id)
    job.home = nil  -- The answer to this call says it all.
    local said = speaks and output ~= '' and cjson.decode(output)
    local text = type(said) == 'table' and said.text
    if text and text ~= '' then
      log(job, 0, 2, 'token', '{"text":' .. cjson.encode(text) .. ',"index":0}')
    end
    usage = borrowed(usage)
    lend(job, now, output, usage, retention)
    count(model, now, 'hits')
    return told({'cached', int(now), output, usage})
  end
end

local state = urgent and redis.call('HGET', key.breaker(model), 'state')
if state and state ~= 'closed' then
  rarely()
  local breaker = load_breaker(model)
  local wait = breaker_wait(breaker, now)
  -- In half-open the first of those who wait will be the probe; only with nobody there it is this one.
  if wait == 0 and breaker.state ~= 'closed' and waiting > 0 then wait = NEXT_PROBE_MS end
  if wait > 0 then return told({'unavailable', wait}) end
end
if share ~= '' then
  local flight, leader = open_flight(tenant, share, class, now)
  if flight then
    rarely()
    local job = bear()
    put(job, 'follows', flight)
    await_worker()
    join(job, flight, leader, ttl)
    count(model, now, 'shared')
    return told({'follows', 0, int(now)})
  end
end
if waiting >= max_queued then
  return told({'queue_full', until_drained(rate, waiting - max_queued + 1), waiting})
end
if waiting >= tenant_max then
  local own, sharing = 0, 0
  for _, c in ipairs(CLASSES) do
    own = own + redis.call('ZCARD', key.lane(model, c, tenant))
    sharing = math.max(sharing, redis.call('ZCARD', key.active(model, c)))
  end
  if own >= tenant_max then
    return told({'tenant_queue_full', until_drained(rate, (own - tenant_max + 1) * sharing), own})
  end
end

local ahead, estimate = 0
if waiting > 0 then
  ahead = jobs_ahead(model, class, tenant, redis.call('ZCARD', key.lane(model, class, tenant)))
  if rate then
    local wait = (ahead + 1) / plain_rate
    if wait > DEADLINE_MARGIN * lifetime then
      return told({'deadline', math.ceil(wait - DEADLINE_MARGIN * lifetime), math.ceil(wait)})
    end
    estimate = math.floor(now + (ahead + 1) / rate)
  end
end

local job = bear(estimate)
if share ~= '' then
  point_to(job, (what(share)))
  count(model, now, 'misses')
end
await_worker()
enqueue(job)
local start = rate and math.floor(now + (ahead + 1) / rate) or -1
return told({'created', ring_wanted(model, now), int(now), ahead, start})
