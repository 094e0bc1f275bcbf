--- include: lib/flights, lib/breaker, lib/arrivals, lib/rates, lib/withdrawal
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
-- Returns an item for each job: the error where this script failed at it, and then nothing of it is there; else
-- packed as msgpack, since Redis writes each item of an array to the socket by itself:
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
local QUEUE, GOES, KEY_GOES = 26, 27, 28
local NEXT_PROBE_MS = 1000
local DEADLINE_MARGIN = 2

local now = now_ms()
local breaker_states, bells, all_awake = {}, {}, {}  -- By model: what no job of this call changes again.
local made = {}  -- The jobs that this call has made.
local begun, before  -- The one that it is making, once something is written of it; what was to be written before it.

-- The job that the idempotency key names, if that one is to be answered in place of a new one. `named`: what stands
-- behind the key.
local function replayed(new, named)
  if not named or new[TAKES_KEY] and new[JOINS] == 0 then return nil end
  local first, same = string.match(named, '^(%S+) (%S+)$')
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

-- A refusal where the tenant holds too much already.
local function storage_full(new)
  local second = seconds_now()
  local goes = going(now / 1000, (now + new[LIFETIME]) / 1000 + RETENTION)
  local key_goes = new[DIGEST] ~= '' and going(now / 1000, now / 1000 + new[IDEM_TTL]) or goes
  local held = held_bytes(new[TENANT], second, goes, key_goes)
  if new[MOST_BYTES] > 0 and held >= new[MOST_BYTES] then
    write_ledgers()
    return {'storage_full', until_room(key.bytes(new[TENANT]), held, new[MOST_BYTES], second), held}
  end
  new[GOES], new[KEY_GOES] = goes, key_goes
end

-- Write down all that a job has for itself; `waits`: it does not end at once, so it needs its request.
local function write_job(new, waits)
  local id, digest, fields, record = new[ID], new[DIGEST], new[FIELDS], key.job(new[ID])
  local ttl, deadline = int(math.ceil(new[LIFETIME] / 1000) + RETENTION), int(now + new[LIFETIME])
  if new[ASKED] ~= '' then
    fields[#fields + 1] = 'asked'
    fields[#fields + 1] = #new[ASKED]
    redis.call('SET', key.asked(id), new[ASKED], 'EX', ttl)
    begun = new
  end
  redis.call('HSET', record, 'state', 'queued', 'seq', new[QUEUE].arrivals + 1, 'created', int(now), 'deadline', deadline,
    'attempt', '0', 'head', CREATED, 'bytes', int(JOB_BYTES + new[BYTES]), unpack(fields))
  begun = new
  redis.call('EXPIRE', record, ttl)
  if digest ~= '' then
    redis.call('SET', key.idem(new[TENANT], digest), id .. ' ' .. new[BODY], 'EX', new[IDEM_TTL])
  end
  if waits then redis.call('SET', key.request(id), new[REQUEST], 'EX', ttl) end
  -- Nobody knows of it yet but who makes it, and that one waits for the end alone if it has a `home`.
  if not new[HOME] then publish({id = id, head = '0-0'}, CREATED, 'status', CREATED_DATA) end
end

-- Note what the job adds to the keys of others: nothing of this can fail. `waits`: somebody minds its deadline;
-- `alone`: it stands in no lane.
local function settle(new, waits, alone)
  arrive(new[QUEUE], new[TENANT], new[ID], alone)
  if waits then mind_deadline(new[QUEUE], new[ID], int(now + new[LIFETIME])) end
  count_bytes(new[TENANT], new[GOES], JOB_BYTES + new[BYTES])
  if new[DIGEST] ~= '' then count_bytes(new[TENANT], new[KEY_GOES], IDEMPOTENCY_BYTES) end
  made[#made + 1] = new
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
    write_job(new)
    local job = load(new[ID])
    job.home = nil  -- The answer to this call says it all.
    -- Nobody reads its events before it has ended, and its record can tell them all.
    job.unlogged = '1'
    put(job, 'unlogged', '1')
    if new[SPEAKS] then job.head = '0-' .. int(1 + outputs().speaks_of(refers, output)) end
    flights().lend(job, now, output, usage, RETENTION, refers)
    add(statistics().minute(new[MODEL], now), 'hits', 1)
    settle(new, false, true)
    return {'cached', int(now), output, usage}
  end

  -- A job that waits for the result of another one.
  local function follows(new)
    local flight, leader = flights().open_flight(new[TENANT], new[SHARE], new[CLASS], now)
    if not flight then return nil end
    write_job(new, true)
    local job = load(new[ID])
    put(job, 'follows', flight)
    flights().join(job, flight, leader, math.ceil(new[LIFETIME] / 1000) + RETENTION)
    add(statistics().minute(new[MODEL], now), 'shared', 1)
    settle(new, true, true)
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
  if wait == 0 and tripped.state ~= 'closed' and new[QUEUE].waiting > 0 then wait = NEXT_PROBE_MS end
  if wait > 0 then return {'unavailable', wait} end
end

-- A refusal where too many wait, of all or of its tenant's.
local function queue_full(new)
  local queue, own, tenants = new[QUEUE], 0, 0
  if queue.waiting >= new[MAX_QUEUED] then
    local surplus = queue.waiting - new[MAX_QUEUED] + 1
    return {'queue_full', estimates().until_drained(queue.rate, surplus), queue.waiting}
  end
  if queue.waiting < new[TENANT_MAX] then return nil end
  write_arrivals(now)
  for _, c in ipairs(CLASSES) do
    own = own + redis.call('ZCARD', key.lane(new[MODEL], c, new[TENANT]))
    tenants = math.max(tenants, redis.call('ZCARD', key.active(new[MODEL], c)))
  end
  if own >= new[TENANT_MAX] then
    return {'tenant_queue_full', estimates().until_drained(queue.rate, (own - new[TENANT_MAX] + 1) * tenants), own}
  end
end

-- How many jobs go before a new one.
local function jobs_before(new)
  local queue = new[QUEUE]
  if queue.waiting == 0 then return 0 end
  local own = lane_of(queue, new[CLASS], new[TENANT]).jobs
  -- Where nobody waits in another lane, those in its own are all.
  if own == queue.waiting then return own end
  write_arrivals(now)
  return estimates().jobs_ahead(new[MODEL], new[CLASS], new[TENANT], own)
end

-- A job that waits in its lane, or a refusal where it would wait for too long.
local function queued(new)
  local queue, model, ring = new[QUEUE], new[MODEL]
  local ahead, rate, estimate = jobs_before(new), queue.rate
  if rate and queue.waiting > 0 then
    local wait = (ahead + 1) / queue.plain_rate
    if wait > DEADLINE_MARGIN * new[LIFETIME] then
      return {'deadline', math.ceil(wait - DEADLINE_MARGIN * new[LIFETIME]), math.ceil(wait)}
    end
    estimate = math.floor(now + (ahead + 1) / rate)
    new[FIELDS][#new[FIELDS] + 1] = 'estimate'
    new[FIELDS][#new[FIELDS] + 1] = int(estimate)
  end
  write_job(new, true)
  if new[SHARE] ~= '' then
    flights().point_to({tenant = new[TENANT], id = new[ID]}, (flights().what(new[SHARE])))
    add(statistics().minute(model, now), 'misses', 1)
  end
  all_awake[model] = all_awake[model] or not notify_one(model)
  -- One doorbell is enough for all jobs of a call.
  if not bells[model] then
    bells[model], ring = true, drains_at_work(model, now) == 0 and should_notify(model)
  end
  settle(new, true)
  join_lane(queue, new[CLASS], new[TENANT], new[ID], new[COST])
  return {'created', ring or 0, int(now), ahead, estimate or rate and math.floor(now + 1 / rate) or -1}
end

-- What becomes of a job that was not there before, and may be charged. `named`: what its idempotency key names.
local function admit(new, named)
  local fields, shares = new[FIELDS], new[SHARE] ~= ''
  new[MODEL], new[TENANT], new[CLASS], new[COST] = fields[2], fields[4], fields[6], fields[8]
  new[QUEUE] = queue_of(fields[2], fields[6], fields[4], now)
  if shares and #made > 0 then before = withdrawal().deferred(new[TENANT]) end
  return replayed(new, named) or storage_full(new)
    or shares and sharing().answered(new) or new[URGENT] and unavailable(new) or shares and sharing().follows(new)
    or queue_full(new) or queued(new)
end

-- What is there already of a job, if an earlier call has made it, and what its idempotency key names. A job that was
-- made stands behind its key, unless another one took it.
local function made_before(new)
  local named = new[DIGEST] ~= '' and redis.call('GET', key.idem(new[FIELDS][4], new[DIGEST]))
  if new[DIGEST] ~= '' and not named then return {}, named end
  return redis.call('HMGET', key.job(new[ID]), 'created', 'state', 'cached', 'output', 'usage', 'output_of'), named
end

local function create(packed)
  begun, before = nil, nil
  local new, admitted, rows, reply = cmsgpack.unpack(packed), true
  local born, named = made_before(new)
  if new[CHARGES] then admitted, rows = charge_rates(new[CHARGES], now, born[1]) end
  if born[2] == 'succeeded' and born[3] then
    local output, usage = born[4], born[5]
    if born[6] then output, usage = outputs().referred(born[6]) end
    reply = {'cached', born[1], output, usage}
  elseif born[1] then
    reply = {'created', 0, born[1]}
  else
    reply = admitted and admit(new, named) or {'limited'}
  end
  reply[#reply + 1] = rows
  return cmsgpack.pack(reply)
end

-- Nothing stays of a job whose creation has failed.
local function withdraw(new)
  local job = {id = new[ID], model = new[MODEL], tenant = new[TENANT], class = new[CLASS]}
  withdrawal().withdraw(job, new[DIGEST], new[SHARE] ~= '' and flights().what(new[SHARE]) or nil)
  bells[new[MODEL]] = nil
end

local replies = {}
for i = 1, #ARGV do
  local done, reply = pcall(create, ARGV[i])
  if not done then
    reply = problem(reply)
    -- Nothing of the call was done: a client that gets it as the whole answer looks for the new primary.
    if string.find(reply.err, '^READONLY') then return reply end
    if begun and begun[SHARE] ~= '' then withdrawal().restore(begun[TENANT], before) end
    if begun then withdraw(begun) end
  end
  replies[i] = reply
end
local done, failure = pcall(function()
  write_arrivals(now)
  write_rates()
  write_tallies()
end)
if not done then
  for _, new in ipairs(made) do withdraw(new) end
  return problem(failure)
end
return replies
