--- include: lib/drain, lib/storage
-- What the jobs that one call makes add to the same keys: the model's queue, lanes and deadlines, the index of their
-- tenant. Read once a call, kept here while it makes jobs, and written by `write_arrivals`, once for all of them.

local INDEX_MAX, INDEX_PIECE = 1000000, 256
local RENEW_MS = 3600000  -- A fraction of the horizon.

local queues, indexes = {}, {}

local function cost_field(class, tenant) return 'cost:' .. class .. ':' .. tenant end

-- A model's queue with what this call has added to it. `class`, `tenant`: of the lane that the caller is about to look at.
local function queue_of(model, class, tenant, now)
  local queue = queues[model]
  if queue then return queue end
  local field = cost_field(class, tenant)
  local drained, drain_ms, from, seen, waiting, renewed, arrivals, cost =
    drain_state(model, 'renewed', 'arrivals', field)
  local rate, plain_rate = pace(now, drained, drain_ms, from, seen)
  queue = {model = model, waiting = waiting, arrivals = arrivals, arrived = 0, rate = rate, plain_rate = plain_rate,
    renews = now - renewed > RENEW_MS, deadlines = {}, lanes = {}, costs = {[field] = cost}}
  -- While others wait the deadlines are there, and have their expiry.
  queue.deadlines_expire = queue.renews or waiting == 0
  queues[model] = queue
  return queue
end

-- A lane of that queue: how many wait in it, and what this call has added.
local function lane_of(queue, class, tenant)
  local field = cost_field(class, tenant)
  local lane = queue.lanes[field]
  if not lane then
    lane = {class = class, tenant = tenant, jobs = 0, cost = 0, members = {}}
    -- Where nobody waits for the model, nobody does in the lane.
    if queue.waiting > 0 then lane.jobs = redis.call('ZCARD', key.lane(queue.model, class, tenant)) end
    queue.lanes[field] = lane
  end
  return lane
end

-- A job takes its number in its tenant's index; `alone`: it stands in no lane by which the index lives on.
local function arrive(queue, tenant, id, alone)
  local index = indexes[tenant]
  if not index then
    index = {ids = {}}
    indexes[tenant] = index
  end
  index.ids[#index.ids + 1] = 0
  index.ids[#index.ids + 1] = id
  index.alone = index.alone or alone
  queue.arrivals, queue.arrived = queue.arrivals + 1, queue.arrived + 1
  index.is_long = index.is_long or queue.arrivals % 64 == 0
end

local function join_lane(queue, class, tenant, id, cost)
  local lane = lane_of(queue, class, tenant)
  lane.jobs, lane.cost = lane.jobs + 1, lane.cost + cost
  lane.members[#lane.members + 1] = queue.arrivals
  lane.members[#lane.members + 1] = id
  queue.waiting = queue.waiting + 1
end

local function mind_deadline(queue, id, deadline)
  queue.deadlines[#queue.deadlines + 1] = deadline
  queue.deadlines[#queue.deadlines + 1] = id
end

-- Take the oldest ids off a tenant's index: those beyond the bound, and a piece of those without a job.
local function trim_index(index, now)
  redis.call('ZREMRANGEBYRANK', index, 0, -INDEX_MAX - 1)
  local oldest = redis.call('ZRANGE', index, INDEX_PIECE - 1, INDEX_PIECE - 1)[1]
  if oldest and oldest < string.format('job_%012x', now - 1000 * HORIZON) then
    redis.call('ZREMRANGEBYRANK', index, 0, INDEX_PIECE - 1)
  end
end

local function write_queue(queue, now)
  local name, model, changes = key.queue(queue.model), queue.model, {'arrivals', queue.arrivals, 'depth', queue.waiting}
  for field, lane in pairs(queue.lanes) do
    if #lane.members > 0 then
      local cost = (queue.costs[field] or tonumber(redis.call('HGET', name, field) or 0)) + lane.cost
      queue.costs[field] = cost
      changes[#changes + 1] = field
      changes[#changes + 1] = cost
    end
  end
  if queue.renews then
    changes[#changes + 1] = 'renewed'
    changes[#changes + 1] = int(now)
  end
  redis.call('HSET', name, unpack(changes))
  if #queue.deadlines > 0 then
    redis.call('ZADD', key.deadlines(model), unpack(queue.deadlines))
    if queue.deadlines_expire then redis.call('EXPIRE', key.deadlines(model), HORIZON) end
    queue.deadlines_expire = false
  end
  if queue.renews then
    redis.call('EXPIRE', name, HORIZON)
    redis.call('ZADD', key.models(), int(now), model)
    redis.call('EXPIRE', key.models(), HORIZON)
  end
  for _, lane in pairs(queue.lanes) do
    if #lane.members > 0 then enqueue(model, lane.class, lane.tenant, unpack(lane.members)) end
    lane.members, lane.cost = {}, 0
  end
  queue.arrived, queue.renews, queue.deadlines = 0, false, {}
end

-- Write down what this call has added so far. Whoever makes jobs ends with it, and whoever looks at lanes begins with it.
local function write_arrivals(now)
  for tenant, index in pairs(indexes) do
    local name = key.index(tenant)
    redis.call('ZADD', name, unpack(index.ids))
    if index.alone then keep(name, HORIZON) end
    if index.is_long then trim_index(name, now) end
  end
  indexes = {}
  for _, queue in pairs(queues) do
    if queue.arrived > 0 then write_queue(queue, now) end
  end
end
