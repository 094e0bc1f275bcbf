--- include: lib/tallies
-- What an ended job adds to the statistics of its model and to the usage of its tenant.

local DAY_MS = 86400000

local statistics = lazy(function()
  local figures, days, minutes = FIGURES, {}, {}

  -- What the jobs of a model that end in this call add to their tenant's day.
  local function usage_of(tenant, model, now)
    days[model] = days[model] or {}
    local sums = days[model][tenant]
    if not sums then
      local day = int(math.floor(now / DAY_MS))
      sums = tally(key.used(day, tenant), USAGE_SECONDS, ' ' .. model)
      days[model][tenant] = sums
      if redis.call('SADD', key.usedby(day), tenant) == 1 then
        redis.call('EXPIRE', key.usedby(day), USAGE_SECONDS)
      end
    end
    return sums
  end

  -- What an ended job adds to its tenant's day (shared/store/usage.py reads it): itself by its state, its tokens,
  -- its time. A usage that cannot be read counts as none. Returns what the job used.
  local function account(job, now, usage)
    local sums = usage_of(job.tenant, job.model, now)
    add(sums, job.state, 1)
    local readable, used = pcall(cjson.decode, usage)
    if not readable or type(used) ~= 'table' then used = {} end
    for _, figure in ipairs(figures) do
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
    local sums = minutes[model]
    if not sums then
      sums = tally(key.stats(model, int(math.floor(now / 60000))), STATS_SECONDS, '')
      minutes[model] = sums
    end
    return sums
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

  return {account = account, minute = minute, count_end = count_end}
end)
