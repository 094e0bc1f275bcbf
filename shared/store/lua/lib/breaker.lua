--- include: lib/base
-- The circuit breaker of a model and its retry budget: the twin of shared/store/breaker.py, which says what each
-- part is for. Its hash key.breaker(model) holds
--   state                     closed | open | half_open; nothing there is closed
--   consecutive window        failures in a row; 'slot successes failures,…' of the sliding window, the slot that
--                             counted last first: most counts need not look at the others
--   successes failures opened since the key exists
--   streak changed until      openings in a row; ms of the last change; ms of the cool-down's end
--   probe probe_until         'id/attempt' that tries the model in half-open, and until when it may
--   source source_at other_at the worker that failed last, when, and when another one did
--   retry_at                  ms: when the retry budget is as full as if there had been no retry
-- A policy is BreakerPolicy.packed. Verdicts are 'success', 'failure', 'lost', 'collateral', 'ignored'.

local breaker = lazy(function()
  local BREAKER_TEXTS = {state = 'closed', window = '', probe = '', source = ''}
  local BREAKER_NUMBERS = {'consecutive', 'successes', 'failures', 'opened', 'streak', 'changed', 'until',
    'probe_until', 'source_at', 'other_at', 'retry_at'}

  local function unpack_policy(packed)
    local n = {}
    for number in string.gmatch(packed, '%S+') do n[#n + 1] = tonumber(number) end
    return {threshold = n[1], cooldown = n[2], longest = n[3], rate = n[4], volume = n[5], window = n[6],
      retry_ratio = n[7], retry_floor = n[8]}
  end

  local function load_breaker(model)
    local pairs_in, stored = redis.call('HGETALL', key.breaker(model)), {}
    for i = 1, #pairs_in, 2 do stored[pairs_in[i]] = pairs_in[i + 1] end
    local b = {model = model, stored = stored}
    for field, empty in pairs(BREAKER_TEXTS) do
      stored[field] = stored[field] or empty
      b[field] = stored[field]
    end
    for _, field in ipairs(BREAKER_NUMBERS) do
      stored[field] = tonumber(stored[field] or 0)
      b[field] = stored[field]
    end
    return b
  end

  -- The sliding window; while outcomes are counted its newest slot stands apart, as b.slot, b.good, b.bad.
  local function window_of(b)
    if not b.slot then return b.window end
    return string.format('%d %d %d', b.slot, b.good, b.bad) .. b.window
  end

  -- Write what has changed. A breaker that has closed wakes everybody who waits for it. Returns the old and
  -- the new state, '' where it is the same.
  local function save_breaker(b)
    local stored, changes = b.stored, {}
    b.window, b.slot = window_of(b), nil
    for field in pairs(BREAKER_TEXTS) do
      if b[field] ~= stored[field] then
        changes[#changes + 1] = field
        changes[#changes + 1] = b[field]
      end
    end
    for _, field in ipairs(BREAKER_NUMBERS) do
      if b[field] ~= stored[field] then
        changes[#changes + 1] = field
        changes[#changes + 1] = int(b[field])
      end
    end
    if #changes == 0 then return '' end
    redis.call('HSET', key.breaker(b.model), unpack(changes))
    keep(key.breaker(b.model), HORIZON)
    if stored.state == b.state then return '' end
    if b.state == 'closed' then redis.call('PUBLISH', key.wake(b.model), '1') end
    return stored.state .. ' ' .. b.state
  end

  local function refresh_breaker(b, now)
    if b.state == 'open' and now >= b['until'] then
      b.state, b.changed, b.probe = 'half_open', b['until'], ''
    end
  end

  local function breaker_wait(b, now)
    refresh_breaker(b, now)
    if b.state == 'closed' then return 0 end
    if b.state == 'open' then return b['until'] - now end
    if b.probe == '' then return 0 end
    return math.max(0, b.probe_until - now)
  end

  local function begin_probe(b, now, holder, lease)
    if b.state == 'half_open' then b.probe, b.probe_until = holder, now + lease end
  end

  local function renew_probe(b, now, holder, lease)
    if b.probe ~= '' and b.probe == holder then b.probe_until = now + lease end
  end

  local function cooldown(p, streak)
    if streak == 0 then return 0 end
    return math.min(p.longest, p.cooldown * 2 ^ math.min(streak - 1, MAX_DOUBLINGS))
  end

  local function volume(b)
    local good, bad = 0, 0
    for _, g, f in string.gmatch(window_of(b), '(%d+) (%d+) (%d+)') do
      good, bad = good + g, bad + f
    end
    return good, bad
  end

  -- Make a slot the newest one, and forget those that the window keeps no longer.
  local function turn_window(b, slot)
    local kept, good, bad = '', 0, 0
    for n, g, f in string.gmatch(window_of(b), '(%d+) (%d+) (%d+)') do
      local other = tonumber(n)
      if other == slot then
        good, bad = tonumber(g), tonumber(f)
      elseif other > slot - BREAKER_SLOTS and other < slot then
        kept = kept .. ',' .. n .. ' ' .. g .. ' ' .. f
      end
    end
    b.slot, b.good, b.bad, b.window = slot, good, bad, kept
  end

  local function count_outcome(b, p, now, ok, source)
    local slot = math.floor(now / math.floor(p.window / BREAKER_SLOTS))
    if b.slot ~= slot then
      local newest, good, bad, rest = string.match(b.window, '^(%d+) (%d+) (%d+)()')
      if not b.slot and tonumber(newest) == slot then
        b.slot, b.good, b.bad, b.window = slot, tonumber(good), tonumber(bad), string.sub(b.window, rest)
      else
        turn_window(b, slot)
      end
    end
    if ok then
      b.good, b.consecutive = b.good + 1, 0
      return
    end
    b.bad, b.consecutive = b.bad + 1, b.consecutive + 1
    if b.source ~= '' and b.source ~= source then b.other_at = b.source_at end
    b.source, b.source_at = source, now
  end

  local function trips(b, p, now, workers)
    if workers > 1 and not (b.other_at > 0 and now - b.other_at <= p.window) then return false end
    local good, bad = volume(b)
    local many = good + bad >= p.volume and bad >= p.rate * (good + bad)
    return b.consecutive >= p.threshold or many
  end

  local function open_breaker(b, p, now)
    b.streak = b.streak + 1
    b.opened = b.opened + 1
    b.state, b.changed, b.probe = 'open', now, ''
    b['until'] = now + cooldown(p, b.streak)
  end

  local function close_breaker(b, now)
    b.state, b.changed, b.probe = 'closed', now, ''
    b.consecutive, b.window, b.slot = 0, '', nil
    b.source, b.source_at, b.other_at = '', 0, 0
  end

  local function record_verdict(b, p, now, holder, verdict, source, workers)
    refresh_breaker(b, now)
    local probing = b.state == 'half_open' and b.probe ~= '' and b.probe == holder
    if verdict == 'ignored' and probing then b.probe = '' end
    if verdict == 'ignored' or (verdict == 'collateral' and not probing) then return end
    local ok = verdict == 'success'
    if ok then
      b.successes = b.successes + 1
    elseif verdict ~= 'collateral' then
      b.failures = b.failures + 1
    end
    if b.state == 'closed' then
      count_outcome(b, p, now, ok, source)
      if ok then return end
      if trips(b, p, now, workers) then
        if now - b.changed >= cooldown(p, b.streak) then b.streak = 0 end
        open_breaker(b, p, now)
      end
      return
    end
    if probing and ok then
      close_breaker(b, now)
    elseif probing or (b.state == 'half_open' and verdict == 'lost' and workers < 2) then
      open_breaker(b, p, now)
    end
  end

  local function reset_breaker(b, now)
    close_breaker(b, now)
    b.streak = 0
  end

  -- How long (ms) a retry must wait for its turn in the retry budget, which takes the turn. A generic cell
  -- rate algorithm (ITU-T I.371): `retry_floor` at once, then as many a window as floor and ratio allow.
  local function retry_wait(b, p, now)
    local good, bad = volume(b)
    local interval = p.window / (p.retry_floor + p.retry_ratio * (good + bad))
    local at = math.max(b.retry_at, now)
    b.retry_at = math.floor(at + interval)
    return math.max(0, math.ceil(at - now - p.retry_floor * interval))
  end

  return {policy = unpack_policy, load = load_breaker, save = save_breaker, wait = breaker_wait,
    begin_probe = begin_probe, renew_probe = renew_probe, record = record_verdict, reset = reset_breaker,
    retry_wait = retry_wait}
end)
