-- Take what a request costs of every policy, or of none. The twin of shared/sliding_window.py, which says
-- how the windows count.
-- KEYS[1]: zset, clients by the time of their last request (ms); KEYS[2..]: a string each policy, msgpack
--   {quota, refused, slot, count, slot, count, …}, the oldest slot first.
-- ARGV: client, or '' to look without taking; now (ms), '' for Redis's own time; then for each policy its
--   quota ('' for the one that was last applied), window (ms), cost.
-- Returns {1 admitted | 0 refused, then for each policy its quota, units used, ms to wait, refused so far}.
local SLOTS = 60
local MOST_CLIENTS = 1000
local client, now = ARGV[1], tonumber(ARGV[2])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- The window without what has left it, and the present slot in it.
local function load(k, quota, span, cost)
  local w = {k = k, span = span, cost = cost, used = 0, refused = 0, counts = {}}
  w.slot = math.floor(now * SLOTS / span)
  local packed = redis.call('GET', k)
  local stored = packed and cmsgpack.unpack(packed) or {}
  w.quota, w.refused = tonumber(quota) or stored[1] or 0, stored[2] or 0
  local newest = stored[#stored - 1]
  if #stored > 2 and newest <= w.slot + SLOTS then
    w.slot = math.max(w.slot, newest)
    for i = 3, #stored, 2 do
      if stored[i] >= w.slot - SLOTS then
        w.counts[#w.counts + 1] = stored[i]
        w.counts[#w.counts + 1] = stored[i + 1]
        w.used = w.used + stored[i + 1]
      end
    end
  end
  w.over = w.used + cost > w.quota
  return w
end

local function add(w)
  local last = #w.counts - 1
  if w.counts[last] == w.slot then
    w.counts[last + 1] = w.counts[last + 1] + w.cost
  else
    w.counts[last + 2], w.counts[last + 3] = w.slot, w.cost
  end
  w.used = w.used + w.cost
end

local function store(w)
  local packed = cmsgpack.pack({w.quota, w.refused, unpack(w.counts)})
  redis.call('SET', w.k, packed, 'PX', string.format('%.0f', 2 * w.span))
end

local function wait(w)
  local surplus, freed = w.over and w.used + w.cost - w.quota or 0, 0
  for i = 1, #w.counts, 2 do
    freed = freed + w.counts[i + 1]
    if freed >= surplus then
      return math.max(0, math.ceil((w.counts[i] + SLOTS + 1) * w.span / SLOTS) - now)
    end
  end
  return 0
end

local windows, admitted = {}, true
for i = 2, #KEYS do
  local at = 3 * (i - 1)
  local w = load(KEYS[i], ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]))
  admitted = admitted and not w.over
  windows[#windows + 1] = w
end
local out = {admitted and 1 or 0}
for _, w in ipairs(windows) do
  if client ~= '' then
    if w.over then w.refused = w.refused + 1 end
    if admitted and w.cost > 0 then add(w) end
    if w.over or (admitted and w.cost > 0) then store(w) end
  end
  for _, n in ipairs({w.quota, w.used, wait(w), w.refused}) do out[#out + 1] = n end
end
if client ~= '' then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), client)
  if redis.call('ZCARD', KEYS[1]) > MOST_CLIENTS then
    redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -MOST_CLIENTS - 1)
  end
  redis.call('EXPIRE', KEYS[1], 7200)
end
return out
