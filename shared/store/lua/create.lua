--- include: lib/flights, lib/breaker, lib/drain, lib/rates
-- Take jobs in, one after the other: idempotency, admission, record, request, lane, index, first event. Each sees
-- what became of those before it, as if it had come in a call of its own.
-- ARGV: a list for each job, packed as msgpack, since thirty arguments by themselves cost more to send and to take apart:
--   id, lifetime (ms to the deadline), max_queued, idempotency digest or '', body digest,
--   idempotency ttl (s), whether to refuse the job while the model's breaker keeps it from running, how many jobs of
--   the tenant may wait, whether a text in its output is streamed, the output and the usage of the result if the
--   caller knows it already, else '', what the request is charged (lib/rates.lua) or false, the request, what it shares
--   with others (lib/flights.lua) or '', whether who makes it waits for its end alone (`home`), how many bytes the
--   tenant may hold (lib/storage.lua) or 0, how many the job takes beside JOB_BYTES, what it is expected to write among
--   them, whether the idempotency key is to name this job whatever it named before, within how many ms
--   of its end a job that the key names stands for this one even so, 0: none does, what its client asked or '', and
--   the record's fields, each behind its name: model, tenant, class, cost, and what else there is.
-- Returns an item for each job: the error where this script failed at it, else packed as msgpack, since Redis writes
-- each item of an array to the socket by itself:
--   {'created', ring, created_ms, jobs before it, estimated start (ms) or -1 | nothing of both if an earlier call
--   made it} | {'follows', 0, created_ms} | {'replayed', id} | {'mismatch', id},
--   {'cached', created_ms, output, usage}: it has ended with that result, or a refusal with the ms
--   after which to try again, 0 where that is not known: {'unavailable', ms} |
--   {'queue_full' | 'tenant_queue_full' | 'deadline', ms, how many wait | ms of the estimated wait},
--   {'storage_full', ms, bytes that the tenant holds}, or
--   {'limited'}; last of all, where there are charges, the table of how the client stands with each policy.
-- What stands where in a job's list, and what is found out of it beside that.
local ID, LIFETIME, MAX_QUEUED, DIGEST, BODY, IDEM_TTL, URGENT, TENANT_MAX, SPEAKS = 1, 2, 3, 4, 5, 6, 7, 8, 9
local KNOWN, KNOWN_USAGE, CHARGES, REQUEST, SHARE, HOME, MOST_BYTES, BYTES = 10, 11, 12, 13, 14, 15, 16, 17
local TAKES_KEY, JOINS, ASKED, FIELDS, MODEL, TENANT, CLASS, COST = 18, 19, 20, 21, 22, 23, 24, 25
local WAITING, LANE_COSTS, RATE, PLAIN_RATE, RENEW, SEQ, HELD = 26, 27, 28, 29, 30, 31, 32
local INDEX_MAX, INDEX_PIECE = 1000000, 256
local NEXT_PROBE_MS = 1000
local DEADLINE_MARGIN = 2
local RENEW_MS = 3600000  -- A fraction of the horizon.

local now = now_ms()
local breaker_states, bells, all_awake = {}, {}, {}  -- By model: what no job of this call changes again.

-- The job that the idempotency key names, if that one is to be answered in place of a new one.
local function replayed(new)
  local before = redis.call('GET', key.idem(new[TENANT], new[DIGEST]))
  if not before then return nil end
  local first, same = string.match(before, '^(%S+) (%S+)$')
  local state, finished, unwanted =
    unpack(redis.call('HMGET', key.job(first), 'state', 'finished', 'cancel_requested'))
  local stands = state
  if new[TAKES_KEY] and (state == 'queued' or state == 'running') then
    stands = unwanted ~= '1'
  elseif new[TAKES_KEY] then
    stands = (state == 'succeeded' or state == 'failed') and now - finished < new[JOINS]
  end
  if stands then return {same == new[BODY] and 'replayed' or 'mismatch', first} end
end

-- What the job will make its tenant hold, and a refusal where that one holds too much already.
local function weigh(new)
  local second, bytes_key = math.floor(now / 1000), key.bytes(new[TENANT])
  local goes = going(now / 1000, (now + new[LIFETIME]) / 1000 + RETENTION)
  local key_goes = new[DIGEST] ~= '' and going(now / 1000, now / 1000 + new[IDEM_TTL]) or goes
  local held = redis.call('HMGET', bytes_key, 'total', 'next', goes, key_goes)
  local total, first = tonumber(held[1] or 0), tonumber(held[2] or goes)
  if first <= second then
    total, first = sum_up(bytes_key, second)
    if first == 0 then first = goes end
  end
  if new[MOST_BYTES] > 0 and total >= new[MOST_BYTES] then
    return {'storage_full', until_room(bytes_key, total, new[MOST_BYTES], second), total}
  end
  new[HELD] = {goes = goes, key_goes = key_goes, total = total, first = first, sum = held[3], by_key = held[4]}
end

-- Write down all that a job has from its creation, in whatever way it comes to its end, and the fields of the queue
-- that change with it. `waits`: it does not end at once, so it needs its request, and somebody who minds its deadline.
local function insert_job(new, waits, estimate, ...)
  local id, model, tenant, digest = new[ID], new[MODEL], new[TENANT], new[DIGEST]
  local seq, ttl, deadline = new[SEQ], int(math.ceil(new[LIFETIME] / 1000) + RETENTION), int(now + new[LIFETIME])
  local queue, bytes_key, held, bytes = key.queue(model), key.bytes(tenant), new[HELD], JOB_BYTES + new[BYTES]
  redis.call('HSET', queue, 'arrivals', seq, ...)
  local goes, key_goes, of_key = held.goes, held.key_goes, digest ~= '' and IDEMPOTENCY_BYTES or 0
  local sum = (held.sum or 0) + bytes
  if key_goes == goes then sum = sum + of_key end
  redis.call('HSET', bytes_key, 'total', int(held.total + bytes + of_key),
    'next', int(math.min(held.first, goes, key_goes)), key_goes, int((held.by_key or 0) + of_key), goes, int(sum))
  if not (held.sum and held.by_key) then redis.call('EXPIRE', bytes_key, HORIZON) end
  local record = key.job(id)
  redis.call('HSET', record, 'state', 'queued', 'seq', seq, 'created', int(now), 'deadline', deadline,
    'attempt', '0', 'head', CREATED, 'bytes', int(bytes), unpack(new[FIELDS]))
  if estimate then redis.call('HSET', record, 'estimate', int(estimate)) end
  if new[ASKED] ~= '' then
    redis.call('HSET', record, 'asked', #new[ASKED])
    redis.call('SET', key.asked(id), new[ASKED], 'EX', ttl)
  end
  redis.call('EXPIRE', record, ttl)
  redis.call('ZADD', key.index(tenant), 0, id)
  -- Nobody knows of it yet but who makes it, and that one waits for the end alone if it has a `home`.
  local job = {changes = {}, id = id, model = model, tenant = tenant, class = new[CLASS], state = 'queued',
    cost = new[COST], seq = seq, attempt = 0, head = '0-0', created = now, deadline = deadline}
  if new[HOME] then job.head = CREATED else publish(job, CREATED, 'status', CREATED_DATA) end

  if new[RENEW] then
    redis.call('ZADD', key.models(), int(now), model)
    redis.call('EXPIRE', key.models(), HORIZON)
    redis.call('HSET', queue, 'renewed', int(now))
    redis.call('EXPIRE', queue, HORIZON)
  end
  -- Take the oldest ids off the tenant's index: those beyond the bound, and a piece of those without a job.
  if seq % 64 == 0 then
    redis.call('ZREMRANGEBYRANK', key.index(tenant), 0, -INDEX_MAX - 1)
    local oldest = redis.call('ZRANGE', key.index(tenant), INDEX_PIECE - 1, INDEX_PIECE - 1)[1]
    if oldest and oldest < string.format('job_%012x', now - 1000 * HORIZON) then
      redis.call('ZREMRANGEBYRANK', key.index(tenant), 0, INDEX_PIECE - 1)
    end
  end
  if digest ~= '' then redis.call('SET', key.idem(tenant, digest), id .. ' ' .. new[BODY], 'EX', new[IDEM_TTL]) end
  if waits then
    redis.call('SET', key.request(id), new[REQUEST], 'EX', ttl)
    redis.call('ZADD', key.deadlines(model), deadline, id)
    -- While others wait it is there, and has its expiry.
    if new[RENEW] or new[WAITING] == 0 then redis.call('EXPIRE', key.deadlines(model), HORIZON) end
  end
  return job
end

local sharing = lazy(function()
  -- A job that ends at once, with a result that its caller brings or that is there already.
  local function answered(new)
    local output, usage, refers = new[KNOWN], new[KNOWN_USAGE]
    if output ~= '' then
      usage = outputs().borrowed(usage)
      refers = outputs().brought((flights().what(new[SHARE])), new[ID], output, usage)
    else
      output, usage, refers = flights().recall(new[TENANT], new[SHARE], now)
    end
    if not output then return nil end
    insert_job(new)
    keep(key.index(new[TENANT]), HORIZON)
    local job = load(new[ID])
    job.home = nil  -- The answer to this call says it all.
    -- Nobody reads its events before it has ended, and its record can tell them all.
    job.unlogged = '1'
    put(job, 'unlogged', '1')
    if new[SPEAKS] then job.head = '0-' .. int(1 + outputs().speaks_of(refers, output)) end
    flights().lend(job, now, output, usage, RETENTION, refers)
    add(statistics().minute(new[MODEL], now), 'hits', 1)
    return {'cached', int(now), output, usage}
  end

  -- A job that waits for the result of another one.
  local function follows(new)
    local flight, leader = flights().open_flight(new[TENANT], new[SHARE], new[CLASS], now)
    if not flight then return nil end
    local job = insert_job(new, true)
    keep(key.index(new[TENANT]), HORIZON)
    put(job, 'follows', flight)
    flights().join(job, flight, leader, math.ceil(new[LIFETIME] / 1000) + RETENTION)
    add(statistics().minute(new[MODEL], now), 'shared', 1)
    return {'follows', 0, int(now)}
  end

  return {answered = answered, follows = follows}
end)

-- A refusal while the model's breaker keeps jobs from running.
local function unavailable(new)
  local model = new[MODEL]
  breaker_states[model] = breaker_states[model] or redis.call('HGET', key.breaker(model), 'state') or 'closed'
  if breaker_states[model] == 'closed' then return nil end
  local tripped = breaker().load(model)
  local wait = breaker().wait(tripped, now)
  -- In half-open the first of those who wait will be the probe; only with nobody there it is this one.
  if wait == 0 and tripped.state ~= 'closed' and new[WAITING] > 0 then wait = NEXT_PROBE_MS end
  if wait > 0 then return {'unavailable', wait} end
end

-- A refusal where too many wait, of all or of its tenant's.
local function queue_full(new)
  local waiting, own, tenants = new[WAITING], 0, 0
  if waiting >= new[MAX_QUEUED] then
    return {'queue_full', estimates().until_drained(new[RATE], waiting - new[MAX_QUEUED] + 1), waiting}
  end
  if waiting < new[TENANT_MAX] then return nil end
  for _, c in ipairs(CLASSES) do
    own = own + redis.call('ZCARD', key.lane(new[MODEL], c, new[TENANT]))
    tenants = math.max(tenants, redis.call('ZCARD', key.active(new[MODEL], c)))
  end
  if own >= new[TENANT_MAX] then
    return {'tenant_queue_full', estimates().until_drained(new[RATE], (own - new[TENANT_MAX] + 1) * tenants), own}
  end
end

-- A job that waits in its lane, or a refusal where it would wait for too long.
local function queued(new)
  local model, ahead, rate, estimate, ring = new[MODEL], 0, new[RATE]
  if new[WAITING] > 0 then
    ahead = redis.call('ZCARD', key.lane(model, new[CLASS], new[TENANT]))
    -- Where nobody waits in another lane, those in its own are all.
    if ahead < new[WAITING] then ahead = estimates().jobs_ahead(model, new[CLASS], new[TENANT], ahead) end
    if rate then
      local wait = (ahead + 1) / new[PLAIN_RATE]
      if wait > DEADLINE_MARGIN * new[LIFETIME] then
        return {'deadline', math.ceil(wait - DEADLINE_MARGIN * new[LIFETIME]), math.ceil(wait)}
      end
      estimate = math.floor(now + (ahead + 1) / rate)
    end
  end
  local job = insert_job(new, true, estimate, 'depth', int(new[WAITING] + 1),
    'cost:' .. new[CLASS] .. ':' .. new[TENANT], int(new[LANE_COSTS] + new[COST]))
  if new[SHARE] ~= '' then
    flights().point_to(job, (flights().what(new[SHARE])))
    add(statistics().minute(model, now), 'misses', 1)
  end
  enqueue(job)
  all_awake[model] = all_awake[model] or not notify_one(model)
  -- One doorbell is enough for all jobs of a call.
  if not bells[model] then
    bells[model], ring = true, drains_at_work(model, now) == 0 and should_notify(model)
  end
  return {'created', ring or 0, int(now), ahead, estimate or rate and math.floor(now + 1 / rate) or -1}
end

-- What becomes of a job that was not there before, and may be charged.
local function admit(new)
  local fields, shares = new[FIELDS], new[SHARE] ~= ''
  local model, tenant, class = fields[2], fields[4], fields[6]
  new[MODEL], new[TENANT], new[CLASS], new[COST] = model, tenant, class, fields[8]
  local drained, drain_ms, from, seen, waiting, renewed, arrivals, lane_costs =
    drain_state(model, 'renewed', 'arrivals', 'cost:' .. class .. ':' .. tenant)
  new[WAITING], new[LANE_COSTS] = waiting, lane_costs
  new[RATE], new[PLAIN_RATE] = pace(now, drained, drain_ms, from, seen)
  new[RENEW], new[SEQ] = now - renewed > RENEW_MS, int(arrivals + 1)
  return new[DIGEST] ~= '' and (new[JOINS] > 0 or not new[TAKES_KEY]) and replayed(new) or weigh(new)
    or shares and sharing().answered(new) or new[URGENT] and unavailable(new) or shares and sharing().follows(new)
    or queue_full(new) or queued(new)
end

local function create(packed)
  local new, admitted, rows, reply = cmsgpack.unpack(packed), true
  local born = redis.call('HMGET', key.job(new[ID]), 'created', 'state', 'cached', 'output', 'usage', 'output_of')
  if new[CHARGES] then admitted, rows = charge_rates(new[CHARGES], now, born[1]) end
  if born[2] == 'succeeded' and born[3] then
    local output, usage = born[4], born[5]
    if born[6] then output, usage = outputs().referred(born[6]) end
    reply = {'cached', born[1], output, usage}
  elseif born[1] then
    reply = {'created', 0, born[1]}
  else
    reply = admitted and admit(new) or {'limited'}
  end
  reply[#reply + 1] = rows
  -- The next job may be the same tenant's.
  if next(ledgers) then write_ledgers() end
  return cmsgpack.pack(reply)
end

local replies = {}
for i = 1, #ARGV do
  local done, reply = pcall(create, ARGV[i])
  if not done then
    -- Redis' errors begin with their codes, Lua's own with where they happened.
    reply = {err = string.find(reply, '^%u+ ') and reply or 'ERR ' .. reply}
    -- Nothing of the call was done: a client that gets it as the whole answer looks for the new primary.
    if string.find(reply.err, '^READONLY') then return reply end
  end
  replies[i] = reply
end
write_tallies()
return replies
