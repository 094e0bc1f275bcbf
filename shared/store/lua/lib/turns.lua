--- include: lib/lanes
-- Which of the waiting jobs are next.

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
        if #jobs < #ids or #ids == room and redis.call('EXISTS', lane) == 1 then
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
