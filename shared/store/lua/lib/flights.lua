--- include: lib/endings
-- The result cache and single flight: what jobs that ask the same share.
--   A record's `share` is '<digest> <ttl (s)> <most>': what it asks, hashed, and for how long and among how
--   many of its tenant's results its own is found again; ttl 0: nowhere in Redis.
--   key.cached(tenant, digest)     the id of the job whose record holds the result
--   key.results(tenant)            the digests of these, by last use (ms): the least recently used goes
--   key.flights(tenant)            by digest, the id of the job that works on it now, its flight's leader: fields of
--                                  one hash, which go with the job; a million keys of their own would take 84 MB more
--   key.followers(flight)          the jobs that wait for its result, the most urgent first
-- A flight has the id of its first leader; those after it have `flight` in their records. A leader is an ordinary
-- job, `followed` once it has had followers. A follower has `follows`, is queued, and stands in no lane. Its log gets
-- each event of the leader's as it comes. A leader that succeeds ends its followers in the same call. One that is
-- canceled or expires, by its own wish or deadline, is succeeded by the first of them. A failure is nobody's but its
-- own: then each of them runs by itself. Who goes on after a leader continues what was said so far, as a retry would.

local CAUGHT_UP_MAX = 4096
local EVICTED_MAX = 64
local RANK = {high = 0, normal = 1, low = 2}

flights = lazy(function()
  local function what(share)
    local digest, ttl, most = string.match(share, '^(%S+) (%d+) (%d+)$')
    return digest, tonumber(ttl), tonumber(most)
  end

  local function flight_of(job) return job.flight or job.id end

  local function point_to(job, digest)
    local flights = key.flights(job.tenant)
    redis.call('HSET', flights, digest, job.id)
    keep(flights, HORIZON)
  end

  -- The output of the job that had the same to do, its usage as others are told it, and the id to refer to it by; or nil.
  local function recall(tenant, share, now)
    local digest, ttl = what(share)
    local id = ttl > 0 and redis.call('GET', key.cached(tenant, digest))
    if not id then return nil end
    local output, usage, refers = outputs().shareable(id, tenant)
    if not output then
      redis.call('DEL', key.cached(tenant, digest))
      redis.call('ZREM', key.results(tenant), digest)
      return nil
    end
    redis.call('ZADD', key.results(tenant), int(now), digest)
    return output, usage, refers
  end

  local function remember(job, digest, ttl, most, now)
    redis.call('SET', key.cached(job.tenant, digest), job.id, 'EX', int(ttl))
    count_bytes(job.tenant, going(now / 1000, now / 1000 + ttl), RESULT_BYTES)
    local results = key.results(job.tenant)
    redis.call('ZADD', results, int(now), digest)
    keep(results, HORIZON)
    local surplus = math.min(redis.call('ZCARD', results) - most, EVICTED_MAX)
    if surplus > 0 then
      local oldest = redis.call('ZPOPMIN', results, surplus)
      for i = 1, #oldest, 2 do redis.call('DEL', key.cached(job.tenant, oldest[i])) end
    end
  end

  -- End a waiting job with another one's result, to which it refers by `id`.
  local function lend(job, now, output, usage, retention, id)
    job.cached, job.refers = '1', id
    put(job, 'cached', '1')
    endings().finish(job, 'succeeded', now, output, '', usage, retention)
  end

  -- The flight that a new job may join, with its leader, or nil.
  local function open_flight(tenant, share, class, now)
    local id = redis.call('HGET', key.flights(tenant), (what(share)))
    local leader = id and load(id)
    if not leader or leader.cancel_requested then return nil end
    local flight = flight_of(leader)
    if leader.state ~= 'running' and leader.state ~= 'queued' then return nil end
    if tonumber(leader.deadline) <= now then return nil end
    -- Nobody waits behind a leader that stands further back than it would itself.
    if leader.state == 'queued' and RANK[class] < RANK[leader.class] then return nil end
    if redis.call('ZCARD', key.followers(flight)) >= FOLLOWERS_MAX then return nil end
    if redis.call('XLEN', key.log(id)) > CAUGHT_UP_MAX then return nil end
    return flight, leader
  end

  -- Add a part of a message to those that came before it; see `shared.domain.parts`.
  local function add_part(parts, part)
    local last = parts[#parts]
    if not last or last.type ~= part.type or last.index ~= part.index then
      parts[#parts + 1] = part
    elseif part.type == 'tool_call' then
      last.arguments = last.arguments .. part.arguments
    else
      last.text = last.text .. part.text
    end
  end

  -- What a job has told since its last reset, an event each, as {kind, data, tokens}.
  local function told_by(id)
    local told = {}
    for _, entry in ipairs(redis.call('XRANGE', key.log(id), '-', '+')) do
      local event = entry[2]
      if event[2] == 'reset' then
        told = {}
      elseif event[2] == 'token' or event[2] == 'output' then
        told[#told + 1] = {event[2], event[4], event[6]}
      end
    end
    return told
  end

  -- One event of each text, or nil where one has log-probabilities: their empty lists would not outlive cjson.
  local function told_in_few(told)
    local said, choices, few = {}, {}, {}
    for _, event in ipairs(told) do
      if event[1] == 'token' then
        local data = cjson.decode(event[2])
        if data.logprobs then return nil end
        local choice = data.choice or 0
        if not said[choice] then
          said[choice] = {texts = {}, tokens = {}}
          choices[#choices + 1] = choice
        end
        local one = said[choice]
        one.texts[#one.texts + 1] = data.text
        one.tokens[#one.tokens + 1] = event[3]
        if data.parts then
          one.parts = one.parts or {}
          for _, part in ipairs(data.parts) do add_part(one.parts, part) end
        end
        one.finish_reason = data.finish_reason
      end
    end
    for _, choice in ipairs(choices) do
      local one = said[choice]
      local data = '{"text":' .. cjson.encode(table.concat(one.texts)) .. ',"index":0'
      if choice > 0 then data = data .. ',"choice":' .. int(choice) end
      -- cjson takes an empty list for an object.
      if one.parts then data = data .. ',"parts":' .. (#one.parts > 0 and cjson.encode(one.parts) or '[]') end
      if one.finish_reason then data = data .. ',"finish_reason":' .. cjson.encode(one.finish_reason) end
      few[#few + 1] = {'token', data .. '}', table.concat(one.tokens, ',')}
    end
    for _, event in ipairs(told) do
      if event[1] == 'output' then few[#few + 1] = event end
    end
    return few
  end

  -- Give a new follower what the leader has said so far.
  local function catch_up(job, leader)
    local told = told_by(leader.id)
    for _, event in ipairs(told_in_few(told) or told) do
      log(job, 0, next_seq(job), event[1], event[2], event[3])
    end
  end

  local function join(job, flight, leader, ttl)
    local followers = key.followers(flight)
    redis.call('ZADD', followers, int(RANK[job.class] * 2 ^ 40 + tonumber(job.seq)), job.id)
    keep(followers, HORIZON)
    -- The leader's record must be there for as long as somebody waits for what becomes of it.
    for _, k in ipairs({key.job(leader.id), key.log(leader.id)}) do
      if redis.call('TTL', k) < ttl then redis.call('EXPIRE', k, int(ttl)) end
    end
    if not leader.followed then redis.call('HSET', key.job(leader.id), 'followed', '1') end
    catch_up(job, leader)
    save(job)
  end

  local function follower(flight, id)
    local job = load(id)
    if job and job.state == 'queued' and job.follows == flight then return job end
  end

  local function pass_on(job, kind, data, tokens)
    job.party = job.party or redis.call('ZRANGE', key.followers(flight_of(job)), 0, -1)
    for _, id in ipairs(job.party) do
      local other = follower(flight_of(job), id)
      if other then
        log(other, other.attempt, next_seq(other), kind, data, tokens)
        save(other)
      end
    end
  end

  -- Let a follower wait for itself. What it was told so far counts as an attempt: the next one continues it.
  local function let_go(job)
    redis.call('HDEL', key.job(job.id), 'follows')
    job.follows = nil
    if next_seq(job) > 2 then
      job.attempt = 1
      put(job, 'attempt', '1')
    end
  end

  -- The first of those who wait leads from here on.
  local function succeed(flight, digest)
    local followers = key.followers(flight)
    local popped = redis.call('ZPOPMIN', followers)
    while popped[1] do
      local job = follower(flight, popped[1])
      if job then
        let_go(job)
        put(job, 'flight', flight)
        if redis.call('EXISTS', followers) == 1 then put(job, 'followed', '1') end
        save(job)
        enqueue_and_notify(job)
        local other = redis.call('HGET', key.flights(job.tenant), digest)
        if not other or (redis.call('HGET', key.job(other), 'flight') or other) == flight then
          point_to(job, digest)
        end
        return
      end
      popped = redis.call('ZPOPMIN', followers)
    end
  end

  -- A leader succeeded: as many as may be copied in one call have their result; the rest go on without it.
  local function land(job, digest, now, output, usage, retention)
    local flight = flight_of(job)
    local followers = key.followers(flight)
    local room = math.max(1, math.floor(LANDED_BYTES / math.max(1, #output)))
    local _, used, refers
    for _, id in ipairs(redis.call('ZRANGE', followers, 0, room - 1)) do
      redis.call('ZREM', followers, id)
      local other = follower(flight, id)
      if other then
        other.follows = nil
        if not refers then _, used, refers = outputs().shareable(job.id, job.tenant) end
        lend(other, now, output, used, retention, refers)
      end
    end
    succeed(flight, digest)
  end

  local function disband(flight)
    local followers = key.followers(flight)
    for _, id in ipairs(redis.call('ZRANGE', followers, 0, -1)) do
      local job = follower(flight, id)
      if job then
        let_go(job)
        save(job)
        enqueue_and_notify(job)
      end
    end
    redis.call('DEL', followers)
  end

  local function fan_out(job, target, now, output, usage, retention)
    if job.follows then
      redis.call('ZREM', key.followers(job.follows), job.id)
      return
    end
    if job.cached then return end
    local digest, ttl, most = what(job.share)
    if target == 'succeeded' and ttl > 0 then remember(job, digest, ttl, most, now) end
    local flights = key.flights(job.tenant)
    if redis.call('HGET', flights, digest) == job.id then redis.call('HDEL', flights, digest) end
    if not job.followed then return end
    if target == 'succeeded' then
      land(job, digest, now, output, usage, retention)
    elseif target == 'failed' then
      disband(flight_of(job))
    else
      succeed(flight_of(job), digest)
    end
  end

  return {
    what = what,
    point_to = point_to,
    recall = recall,
    lend = lend,
    open_flight = open_flight,
    join = join,
    pass_on = pass_on,
    fan_out = fan_out,
  }
end)
