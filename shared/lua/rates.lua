-- The sliding windows of clients, put behind lib.lua. The twin of shared/sliding_window.py, which says how
-- they count.
--   key.rate(policy, client)   a string, msgpack {quota, refused, slot, count, slot, count, …}, the oldest
--     slot first
--   key.clients()              clients by the time of their last request (ms)

local RATE_SLOTS = 60
local MOST_CLIENTS = 1000
local CLIENTS_SEC = 7200

-- A window without what has left it, and the present slot in it. A quota of -1 is the one last applied.
local function rate_window(k, now, quota, span, cost)
  local w = {k = k, span = span, cost = cost, used = 0, counts = {}}
  w.slot = math.floor(now * RATE_SLOTS / span)
  local packed = redis.call('GET', k)
  local stored = packed and cmsgpack.unpack(packed) or {}
  w.quota, w.refused = quota >= 0 and quota or stored[1] or 0, stored[2] or 0
  local newest = stored[#stored - 1]
  if #stored > 2 and newest <= w.slot + RATE_SLOTS then
    w.slot = math.max(w.slot, newest)
    for i = 3, #stored, 2 do
      if stored[i] >= w.slot - RATE_SLOTS then
        w.counts[#w.counts + 1] = stored[i]
        w.counts[#w.counts + 1] = stored[i + 1]
        w.used = w.used + stored[i + 1]
      end
    end
  end
  w.over = w.used + cost > w.quota
  return w
end

local function rate_add(w)
  local last = #w.counts - 1
  if w.counts[last] == w.slot then
    w.counts[last + 1] = w.counts[last + 1] + w.cost
  else
    w.counts[last + 2], w.counts[last + 3] = w.slot, w.cost
    w.begun = true
  end
  w.used = w.used + w.cost
end

local function rate_wait(w, now)
  local surplus, freed = w.over and w.used + w.cost - w.quota or 0, 0
  for i = 1, #w.counts, 2 do
    freed = freed + w.counts[i + 1]
    if freed >= surplus then
      return math.max(0, math.ceil((w.counts[i] + RATE_SLOTS + 1) * w.span / RATE_SLOTS) - now)
    end
  end
  return 0
end

local function rate_store(w)
  local packed = cmsgpack.pack({w.quota, w.refused, unpack(w.counts)})
  redis.call('SET', w.k, packed, 'PX', int(2 * w.span))
end

-- Take what a request costs of every policy, or of none; `look`: only see how its client stands.
-- `packed`: msgpack {client, now (ms) or 0 for Redis's, {{policy, quota, window (ms), cost}, …}}.
-- Returns whether it was admitted, and of each policy its quota, units used, ms to wait, refused so far.
local function charge_rates(packed, now, look)
  local client, at, policies = unpack(cmsgpack.unpack(packed))
  if at > 0 then now = at end
  local windows, admitted, begun, rows = {}, true, false, {}
  for i, policy in ipairs(policies) do
    local name, quota, span, cost = unpack(policy)
    windows[i] = rate_window(key.rate(name, client), now, quota, span, cost)
    admitted = admitted and not windows[i].over
  end
  for _, w in ipairs(windows) do
    if not look then
      if w.over then w.refused = w.refused + 1 end
      if admitted and w.cost > 0 then rate_add(w) end
      if w.over or (admitted and w.cost > 0) then rate_store(w) end
      begun = begun or w.begun
    end
    for _, n in ipairs({w.quota, w.used, rate_wait(w, now), w.refused}) do rows[#rows + 1] = n end
  end
  -- Which clients there are is written down as often as they begin a slot.
  if begun or (not look and not admitted) then
    redis.call('ZADD', key.clients(), int(now), client)
    if redis.call('ZCARD', key.clients()) > MOST_CLIENTS then
      redis.call('ZREMRANGEBYRANK', key.clients(), 0, -MOST_CLIENTS - 1)
    end
    redis.call('EXPIRE', key.clients(), CLIENTS_SEC)
  end
  return admitted, rows
end
