--- include: lib/lanes, lib/drain
-- How long jobs have waited and how long all that wait will take. Writes nothing.
-- ARGV: models.
-- Returns for each model: ms that the oldest waiting job has waited or -1, ms until all are started or -1.
local MOST_TENANTS = 1000  -- looked at in each class, those that had least first.
local now = now_ms()
local told = {}
for i = 1, #ARGV do
  local model, oldest = ARGV[i], nil
  for _, class in ipairs(CLASSES) do
    for _, tenant in ipairs(redis.call('ZRANGE', key.active(model, class), 0, MOST_TENANTS - 1)) do
      local first = redis.call('ZRANGE', key.lane(model, class, tenant), 0, 0)[1]
      local created = first and tonumber(redis.call('HGET', key.job(first), 'created') or nil)
      if created then oldest = math.min(oldest or created, created) end
    end
  end
  local rate, _, waiting = estimates().drain_rate(model, now)
  told[#told + 1] = oldest and math.max(0, now - oldest) or -1
  told[#told + 1] = waiting > 0 and rate and math.ceil(waiting / rate) or -1
end
return told
