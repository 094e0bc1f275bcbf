-- Shared by every script, of which lua_parts.py puts in front what it uses. Python fills in:
--   HORIZON      seconds: twice the longest deadline + retention
--   MOVES        the moves that states.py allows
--   CREATED, BORN  id and data of every job's first event
--   key.job(id)  and so on: keys, as keys.py spells them
-- What few calls need is made only once `rarely()` was called, in scripts that name it so (lua_parts.py).
-- What is asked for most is answered in msgpack, as one string: an array would go out in a write, and a packet,
-- of its own, and each array in it in two more, however many calls came together.
-- Scripts build their keys from ids, so they need one primary (or Sentinel), not a cluster.
-- A job record (hash key.job(id)) has these fields. Redis packs a hash whose values have 64 bytes at most,
-- which takes a third of the memory, so what is longer from birth has a key of its own (key.request).
--   model tenant class state seq cost metadata traceparent request_id              from birth
--   created deadline                     ms since 1970, Redis TIME
--   attempt                              the fence
--   failures crashes                     failed attempts; attempts lost to crashes; none where they are not there
--   head                                 id of the last event in the log
--   started finished                     ms, once known
--   worker cancel_requested output error usage
--   device_us                            device time of the attempts that were given back
--   parked                               '1' while its worker holds it without running it
--   home                                 the process that made it and waits for its end
--   fallback_from                        the model that was asked for, where another one stands in
--   estimate                             when it would start, ms, as it looked when it was made
--   webhook                              who is told of its start and its end (outbox.lua)
--   share flight followed follows        what it shares with jobs that ask the same (flights.lua)
--   cached                               '1' when its result is another job's
--   output_of                            what it refers to in place of an output of its own (outputs.lua)
--   unlogged                             '1' where its events are told by its record: it ended when it was made
--   bytes said                           what it is counted with (storage.lua); while it lives the bytes of its events apart

local CLASSES = {'high', 'normal', 'low'}
local BELL_MS = 5000
local MAX_CRASHES = 3
local INDEX_MAX = 100000
local DEAD_MAX = 10000
local DAY_MS = 86400000
local USAGE_SECONDS = 93 * 86400
local STATS_SEC = 600
local MOST_COUNTED = 1e12  -- Of one job: what an engine says of itself may be anything.
local FIGURES = {'prompt_tokens', 'completion_tokens', 'cached_tokens', 'run_ms'}
local part, pass_on  -- in flights.lua

local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- '%.0f' takes three times as long. Needs a Redis of 64 bits.
local function int(value) return string.format('%d', value) end

local function keep(k, seconds)
  if redis.call('TTL', k) < seconds / 2 then redis.call('EXPIRE', k, int(seconds)) end
end

-- The record, or nil when there is none. All of it: to look a field up in a packed hash costs as much as to read
-- half of it.
local function load(id)
  local pairs, job = redis.call('HGETALL', key.job(id)), {}
  for i = 1, #pairs, 2 do job[pairs[i]] = pairs[i + 1] end
  if not job.model then return nil end
  job.id, job.changes = id, {}
  job.attempt = tonumber(job.attempt)
  return job
end

-- Change a field of the record; `save` writes what has changed, once a transition.
local function put(job, field, value)
  local changes = job.changes
  changes[#changes + 1] = field
  changes[#changes + 1] = value
end

local function save(job)
  if job.spoke then
    put(job, 'head', job.head)
    if job.said then put(job, 'said', int(job.said)) end
  end
  if #job.changes > 0 then
    redis.call('HSET', key.job(job.id), unpack(job.changes))
    job.changes, job.spoke = {}, nil
  end
end

-- Move a job to another state; a move that states.py does not list is a bug and stops the script
-- before anything is written.
local function move(job, target)
  if not string.find(MOVES, ' ' .. job.state .. '>' .. target .. ' ', 1, true) then
    error('no transition ' .. job.state .. ' -> ' .. target)
  end
  job.state = target
  put(job, 'state', target)
end

-- A full Redis refuses a script whose first write takes memory. After one that takes none it lets the others pass:
-- so do the scripts that end jobs and keep them going, which takes little and gives back much.
local function write_though_full() redis.call('DEL', key.bell('')) end

-- Say an event live, naming the one before it.
local function say(job, id, kind, data)
  redis.call('PUBLISH', key.events(job.id), id .. ' ' .. job.head .. ' ' .. kind .. ' ' .. data)
  job.head = id
end

-- Add an event to the job's log and say it live. The first event of all jobs is the same one, so it is
-- never written: a stream takes 4.7 KB from its first entry, and a job that waits has said no more.
local function log(job, attempt, seq, kind, data, tokens)
  local id, stream = int(attempt) .. '-' .. int(seq), key.log(job.id)
  job.spoke = true
  if job.unlogged then
    job.head = id
    return
  end
  if tokens and tokens ~= '' then
    redis.call('XADD', stream, id, 'e', kind, 'd', data, 't', tokens)
  else
    redis.call('XADD', stream, id, 'e', kind, 'd', data)
  end
  if job.head == CREATED then redis.call('EXPIRE', stream, redis.call('TTL', key.job(job.id))) end
  local before = job.said
  job.said = (before or 0) + EVENT_BYTES + #data + #(tokens or '')
  count_bytes(job.tenant, job_going(job), log_bytes(job.said) - log_bytes(before))
  say(job, id, kind, data)
end

local function next_seq(job)
  return tonumber(string.match(job.head, '%-(%d+)$')) + 1
end

local function status_event(job, extra)
  return '{"status":"' .. job.state .. '","attempt":' .. int(job.attempt) .. (extra or '') .. '}'
end

local function depth(model) return tonumber(redis.call('HGET', key.queue(model), 'depth') or 0) end

-- Add to what the jobs of a lane cost together.
local function lane_cost(model, class, tenant, cost)
  redis.call('HINCRBY', key.queue(model), 'cost:' .. class .. ':' .. tenant, cost)
end

-- Drains that wait for jobs stand in key.idle by since when; full ones behind all others: their room comes by itself,
-- but they ring for a worker that stands idle.
local FULL = 1e15

-- Call one of them; the next, where nobody hears it. `spare`: nobody who is full.
local function rouse(model, spare)
  local idle = key.idle(model)
  local first = redis.call('ZRANGE', idle, 0, 0, 'WITHSCORES')
  while first[1] and not (spare and tonumber(first[2]) >= FULL) do
    redis.call('ZREM', idle, first[1])
    if redis.call('PUBLISH', key.rouse(first[1]), '1') > 0 then return end
    first = redis.call('ZRANGE', idle, 0, 0, 'WITHSCORES')
  end
end

-- Stand a waiting job in its lane; false where it stands there already. Its arrival number keeps its place, so a job
-- that comes back stands at the front. A tenant whose lane was empty joins at the class's virtual clock.
-- A lane lives as long as any job in it, and what lists its jobs lives as long as the lane.
local function line_up(job)
  local model, class, tenant = job.model, job.class, job.tenant
  local lane, active = key.lane(model, class, tenant), key.active(model, class)
  if redis.call('ZADD', lane, job.seq, job.id) == 0 then return false end
  if not redis.call('ZSCORE', active, tenant) then
    local clock = tonumber(redis.call('HGET', key.queue(model), 'clock:' .. class) or 0)
    local tag = tonumber(redis.call('ZSCORE', key.tags(model, class), tenant) or 0)
    redis.call('ZADD', active, math.max(clock, tag), tenant)
  elseif redis.call('TTL', lane) >= HORIZON / 2 then
    return true
  end
  redis.call('EXPIRE', lane, HORIZON)
  redis.call('EXPIRE', active, HORIZON)
  redis.call('EXPIRE', key.index(tenant), HORIZON)
  return true
end

-- Put a waiting job into its lane, and call somebody for it.
local function enqueue(job)
  if not line_up(job) then return end
  lane_cost(job.model, job.class, job.tenant, job.cost)
  redis.call('HINCRBY', key.queue(job.model), 'depth', 1)
  rouse(job.model)
end

-- A lane is empty, its tenant's tag and the class's virtual clock (numbers) are these: the tag is remembered while
-- it is ahead of the clock, so that nobody gains by leaving.
local function close_lane(model, class, tenant, tag, clock)
  local tags = key.tags(model, class)
  redis.call('ZREM', key.active(model, class), tenant)
  redis.call('HDEL', key.queue(model), 'cost:' .. class .. ':' .. tenant)
  if tag > clock then
    redis.call('ZADD', tags, tag, tenant)
    keep(tags, HORIZON)
  end
  redis.call('ZREMRANGEBYSCORE', tags, '-inf', clock)
end

-- Take a job out of its lane, wherever it stands in it.
local function dequeue(job)
  local lane = key.lane(job.model, job.class, job.tenant)
  if redis.call('ZREM', lane, job.id) == 0 then return end
  redis.call('HINCRBY', key.queue(job.model), 'depth', -1)
  if redis.call('EXISTS', lane) == 1 then
    lane_cost(job.model, job.class, job.tenant, -tonumber(job.cost))
  else
    local clock = tonumber(redis.call('HGET', key.queue(job.model), 'clock:' .. job.class) or 0)
    local tag = tonumber(redis.call('ZSCORE', key.active(job.model, job.class), job.tenant) or clock)
    close_lane(job.model, job.class, job.tenant, tag, clock)
  end
end

-- The next jobs, up to `room` and until they cost `budget`, all of one tenant: in order of class, then the
-- tenant that had least, then age. Start-time fair queueing: a tenant's tag grows by the cost of what it got
-- (Goyal, Vin, Cheng 1996), so tenants share the engine's work and not the number of jobs. Returns the jobs and how
-- many still wait.
local function pop(model, room, budget)
  for _, class in ipairs(CLASSES) do
    local active, queue = key.active(model, class), key.queue(model)
    local first = redis.call('ZRANGE', active, 0, 1, 'WITHSCORES')
    while first[1] do
      local tenant, tag, rival, limit = first[1], tonumber(first[2]), first[3], tonumber(first[4])
      local lane = key.lane(model, class, tenant)
      local ids, jobs, spent, clock = redis.call('ZRANGE', lane, 0, room - 1), {}, 0, tag
      for i, id in ipairs(ids) do
        if i > 1 and (spent >= budget or rival and (tag > limit or tag == limit and tenant > rival)) then break end
        jobs[i] = load(id) or {id = id, cost = 1}
        local cost = tonumber(jobs[i].cost)
        clock, tag, spent = tag, tag + cost, spent + cost
      end
      if #jobs > 0 then
        redis.call('ZREM', lane, unpack(ids, 1, #jobs))
        redis.call('HSET', queue, 'clock:' .. class, clock)
        if redis.call('EXISTS', lane) == 1 then
          redis.call('ZADD', active, tag, tenant)
          lane_cost(model, class, tenant, -spent)
        else
          close_lane(model, class, tenant, tag, clock)
        end
        return jobs, redis.call('HINCRBY', queue, 'depth', -#jobs)
      end
      redis.call('ZREM', active, tenant)
      first = redis.call('ZRANGE', active, 0, 1, 'WITHSCORES')
    end
  end
  return {}, 0
end

-- What many jobs of one call add to or take away from the same keys, until `settle` writes it.
local tallies, leavers = {}, {}

-- The sums that are added to fields of a hash that lives for so long; each field's name ends with `suffix`.
local function tally(k, seconds, suffix)
  local name = k .. suffix
  local sums = tallies[name]
  if not sums then
    sums = {}
    tallies[name] = sums
    tallies[#tallies + 1] = {k = k, seconds = seconds, suffix = suffix, sums = sums}
  end
  return sums
end

-- Take a member out of a sorted set.
local function leave(k, member)
  leavers[k] = leavers[k] or {}
  table.insert(leavers[k], member)
end

-- Every script that ends jobs or counts ends with this.
local function settle()
  for _, counts in ipairs(tallies) do
    local fresh = false
    for field, n in pairs(counts.sums) do
      fresh = redis.call('HINCRBY', counts.k, field .. counts.suffix, int(n)) == n or fresh
    end
    if fresh then redis.call('EXPIRE', counts.k, int(counts.seconds)) end
  end
  for k, members in pairs(leavers) do redis.call('ZREM', k, unpack(members)) end
  if next(ledgers) then rarely() write_ledgers() end
end

local function add(sums, field, n)
  if n > 0 then sums[field] = (sums[field] or 0) + math.floor(math.min(n, MOST_COUNTED) + 0.5) end
end

-- What an ended job adds to its tenant's day (shared/store/usage.py reads it): itself by its state, its tokens,
-- its time. A usage that cannot be read counts as none. Returns what the job used.
local function account(job, now, usage)
  local sums = tally(key.usage(int(math.floor(now / DAY_MS))), USAGE_SECONDS, ' ' .. job.model .. ' ' .. job.tenant)
  add(sums, job.state, 1)
  local readable, used = pcall(cjson.decode, usage)
  if not readable or type(used) ~= 'table' then used = {} end
  for _, figure in ipairs(FIGURES) do
    local value = used[figure]
    if type(value) == 'number' then add(sums, figure, value) end
  end
  if type(used.device_seconds) == 'number' then
    add(sums, 'device_us', used.device_seconds * 1e6)
  elseif not used.device_seconds then
    add(sums, 'device_us', tonumber(job.device_us) or 0)
  end
  return used
end

-- The bucket of a duration in ms: number i ends at GAMMA^i (shared/store/stats.py).
local function bucket(ms) return int(math.ceil(math.log(math.max(1, ms)) / math.log(GAMMA))) end

-- What is counted in the statistics of this minute.
local function minute(model, now)
  return tally(key.stats(model, int(math.floor(now / 60000))), STATS_SEC, '')
end

-- Count an end.
local function count_end(job, target, now, tokens)
  local sums, created = minute(job.model, now), tonumber(job.created)
  add(sums, 'n:' .. target, 1)
  if job.started then add(sums, 'w' .. bucket(tonumber(job.started) - created), 1) end
  if target == 'succeeded' then
    add(sums, 'l' .. bucket(now - created), 1)
    if type(tokens) == 'number' then add(sums, 'tokens', tokens) end
  end
end

-- What an ended job is counted with from now on; `kept`: bytes of its output, usage and request.
local function count_ended(job, now, kept)
  local logged = log_bytes(job.said)
  local bytes = (job.refers and REFERRING_BYTES or ENDED_BYTES) + #(job.metadata or '') + #(job.webhook or '')
    + logged + kept
  count_bytes(job.tenant, job_going(job), -(job.bytes or 0) - logged)
  count_bytes(job.tenant, ended_going(now), bytes)
  put(job, 'bytes', int(bytes))
  job.said = nil
end

-- End a job for good: the only way into a terminal state. `dead`: keep it in the dead-letter list, and its request,
-- so that it can be tried again. `job.refers`: the output is one that it refers to.
-- Whoever waits for the end at the process that made the job (`home`) gets all of it in one message.
local function finish(job, target, now, output, failure, usage, retention, dead)
  local waited = job.state == 'queued'
  move(job, target)
  if waited then
    rarely()
    dequeue(job)
    redis.call('ZREM', key.due(job.model), job.id)
  else
    leave(key.leases(job.model), job.id)
  end
  put(job, 'finished', int(now))
  if job.refers then
    rarely()
    put(job, 'output_of', refer(job.refers, job.tenant, ended_going(now)))
  else
    put(job, 'output', output)
    put(job, 'usage', usage)
  end
  if failure ~= '' then put(job, 'error', failure) end
  leave(key.deadlines(job.model), job.id)
  if dead then
    local letters = key.dead(job.tenant)
    redis.call('ZADD', letters, int(now), job.id)
    redis.call('ZREMRANGEBYRANK', letters, 0, -DEAD_MAX - 1)
    keep(letters, HORIZON)
  end
  local used = account(job, now, usage)
  count_end(job, target, now, not job.cached and used.completion_tokens)
  log(job, job.attempt, next_seq(job), 'done', '{"status":"' .. target .. '"}')
  local kept = #failure + (job.refers and 0 or #output + #usage)
  if dead then
    redis.call('EXPIRE', key.request(job.id), int(retention))
    kept = kept + redis.call('STRLEN', key.request(job.id))
  else
    redis.call('DEL', key.request(job.id))
  end
  count_ended(job, now, kept)
  save(job)
  redis.call('EXPIRE', key.job(job.id), int(retention))
  redis.call('EXPIRE', key.log(job.id), int(retention))
  if job.webhook then rarely() post(job, 'completed', now) end
  if job.home then
    redis.call('PUBLISH', key.ended(job.home), job.id .. ' ' .. target .. ' ' .. int(job.attempt) .. ' '
      .. (job.started or '') .. ' ' .. int(now) .. ' ' .. (job.cached or '0') .. ' ' .. #output .. ' ' .. #failure
      .. ' ' .. output .. failure .. usage)
  end
  if job.share then rarely() part(job, target, now, output, usage, retention) end
end

-- Give a running job back to the queue, at once or when `delay` ms have passed. The rescuer, which
-- leaves a running job's deadline to its worker for a while, minds it again.
local function requeue(job, now, delay, reason)
  move(job, 'queued')
  redis.call('ZREM', key.leases(job.model), job.id)
  redis.call('ZADD', key.deadlines(job.model), int(tonumber(job.deadline)), job.id)
  log(job, job.attempt, next_seq(job), 'status', status_event(job, ',"reason":"' .. reason .. '"'))
  save(job)
  if delay > 0 then
    redis.call('ZADD', key.due(job.model), int(now + delay), job.id)
    keep(key.due(job.model), HORIZON)
  else
    enqueue(job)
  end
end

-- Put retries whose time has come into their lanes.
local function take_due(model, now, limit)
  local ids = redis.call('ZRANGEBYSCORE', key.due(model), '-inf', int(now), 'LIMIT', 0, limit)
  for _, id in ipairs(ids) do
    redis.call('ZREM', key.due(model), id)
    local job = load(id)
    if job and job.state == 'queued' then rarely() enqueue(job) end
  end
  return #ids
end

-- Whether a doorbell must be pushed. At most one is on its way; one that got lost is rung again once its
-- marker has expired.
local function rung(model)
  return redis.call('SET', key.bell(model), '1', 'NX', 'PX', BELL_MS) and 1 or 0
end

local function drains_at_work(model, now) return redis.call('ZCOUNT', key.drains(model), int(now), '+inf') end

-- Jobs wait and no drain is at work.
local function ring_wanted(model, now)
  if drains_at_work(model, now) > 0 or depth(model) == 0 then return 0 end
  return rung(model)
end

-- Jobs wait behind a drain that is full, and a worker stands idle.
local function relief_wanted(model, now)
  if depth(model) == 0 or redis.call('HLEN', key.workers(model)) <= drains_at_work(model, now) then return 0 end
  return rung(model)
end
