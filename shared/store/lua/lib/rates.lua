--- include: lib/base
-- The sliding windows of clients: counts in slots of a sixtieth of the window (RATE_SLOTS), which are never exceeded.
-- A unit counts until its slot has left the window wholly. So in no span of the window's length is more taken than
-- the quota, and a unit comes free at most one slot later than an exact log would free it.
--   key.window(policy, client)  a string of doubles: quota, refused, units used, the newest slot that counts and its
--     count (0: none does), then each older slot and its count, the oldest first. A request touches both ends alone.
--   key.clients()               clients by the time of their last request (ms)

local WINDOW_HEAD, WINDOW_SLOT = '<ddddd', '<dd'
local HEAD_BYTES, SLOT_BYTES = 40, 16
local MOST_CLIENTS = 1000
local CLIENTS_SEC = 7200

-- The windows that this call has touched, by key, and the clients that are to be written down: many requests of one call
-- are one client's, whose windows are read and written once. `write_rates` writes.
local rate_windows, rate_clients = {}, {}

-- A window without what has left it, and the present slot.
local function rate_read(k, now, span)
  local w = {k = k, span = span, refused = 0, used = 0, newest = 0, units = 0, older = ''}
  w.slot = math.floor(now * RATE_SLOTS / span)
  local packed, applied, newest, units = redis.call('GET', k), 0
  if packed then
    applied, w.refused, w.used, newest, units = struct.unpack(WINDOW_HEAD, packed)
    -- A clock that went back by more than a window starts afresh.
    if units == 0 or newest > w.slot + RATE_SLOTS or newest < w.slot - RATE_SLOTS then
      w.used = 0
    else
      w.newest, w.units, w.slot = newest, units, math.max(w.slot, newest)
      local first = HEAD_BYTES + 1
      while first < #packed do
        local slot, left = struct.unpack(WINDOW_SLOT, packed, first)
        if slot >= w.slot - RATE_SLOTS then break end
        w.used = w.used - left
        first = first + SLOT_BYTES
      end
      w.older = string.sub(packed, first)
    end
  end
  w.quota = applied
  return w
end

local function rate_store(w)
  local head = struct.pack(WINDOW_HEAD, w.quota, w.refused, w.used, w.newest, w.units)
  redis.call('SET', w.k, head .. w.older, 'PX', int(2 * w.span))
  w.changed = false
end

-- A window as a request meets it that costs so much. A quota of -1 is the one last applied.
local function rate_window(k, now, quota, span, cost)
  local w = rate_windows[k]
  if not w or w.span ~= span then
    if w and w.changed then rate_store(w) end
    w = rate_read(k, now, span)
    rate_windows[k] = w
  end
  w.cost, w.quota = cost, quota >= 0 and quota or w.quota
  w.over = w.used + cost > w.quota
  return w
end

local function rate_add(w)
  if w.newest ~= w.slot or w.units == 0 then
    if w.units > 0 then w.older = w.older .. struct.pack(WINDOW_SLOT, w.newest, w.units) end
    w.newest, w.units, w.begun = w.slot, 0, true
  end
  w.units = w.units + w.cost
  w.used = w.used + w.cost
end

-- Milliseconds until a slot has left the window.
local function rate_left(w, slot, now)
  return math.max(0, math.ceil((slot + RATE_SLOTS + 1) * w.span / RATE_SLOTS) - now)
end

-- Milliseconds until what is short has come free, or the first units where nothing is.
local function rate_wait(w, now)
  local short, freed = w.over and w.used + w.cost - w.quota or 0, 0
  for first = 1, #w.older, SLOT_BYTES do
    local slot, units = struct.unpack(WINDOW_SLOT, w.older, first)
    freed = freed + units
    if freed >= short then return rate_left(w, slot, now) end
  end
  if w.units > 0 and freed + w.units >= short then return rate_left(w, w.newest, now) end
  return 0
end

-- Take what a request costs of every policy, or of none; `look`: only see how its client stands.
-- `charges`: {client, now (ms) or 0 for Redis's, {{policy, quota, window (ms), cost}, …}}.
-- Returns whether it was admitted, and of each policy its quota, units used, ms to wait, refused so far.
local function charge_rates(charges, now, look)
  local client, at, policies = unpack(charges)
  if at > 0 then now = at end
  local windows, admitted, rows = {}, true, {}
  for i, policy in ipairs(policies) do
    local name, quota, span, cost = unpack(policy)
    windows[i] = rate_window(key.window(name, client), now, quota, span, cost)
    admitted = admitted and not windows[i].over
  end
  for _, w in ipairs(windows) do
    if not look then
      if w.over then w.refused = w.refused + 1 end
      if admitted and w.cost > 0 then rate_add(w) end
      w.changed = w.changed or w.over or (admitted and w.cost > 0)
      -- Which clients there are is written down as often as they begin a slot.
      if w.begun or not admitted then rate_clients[client] = now end
      w.begun = nil
    end
    local at = #rows
    rows[at + 1], rows[at + 2], rows[at + 3], rows[at + 4] = w.quota, w.used, rate_wait(w, now), w.refused
  end
  return admitted, rows
end

-- Every script that charges ends with this.
local function write_rates()
  for _, w in pairs(rate_windows) do
    if w.changed then rate_store(w) end
  end
  for client, now in pairs(rate_clients) do redis.call('ZADD', key.clients(), int(now), client) end
  if next(rate_clients) then
    if redis.call('ZCARD', key.clients()) > MOST_CLIENTS then
      redis.call('ZREMRANGEBYRANK', key.clients(), 0, -MOST_CLIENTS - 1)
    end
    redis.call('EXPIRE', key.clients(), CLIENTS_SEC)
  end
end
