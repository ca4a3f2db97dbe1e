-- What goals and experiments are measured by.

-- Events with their person as of now, but the visit they had when they were decided: events_current
-- for who does not ask for visits, at half its cost.
CREATE OR REPLACE VIEW {{database}}.events_of_people {{cluster}} AS
SELECT
    e.* EXCEPT (profile_id),
    if(m.into_profile_id = '', e.profile_id, m.into_profile_id) AS profile_id
FROM {{database}}.events AS e
LEFT ANY JOIN {{database}}.merged_profiles AS m
    ON m.workspace = e.workspace AND m.merged_profile_id = e.profile_id;

-- Everything that a goal may ask for, a row each: every event by its name (`goal_type` event), and
-- every page view once more by its path (`goal_type` path). A page view is an event named page_view
-- or page. Its path is properties.path as it is, else that of properties.url, else that of
-- context.page.url: without query and fragment, `/` where an address ends with its host.
CREATE OR REPLACE VIEW {{database}}.goal_events {{cluster}} AS
SELECT
    e.event_id AS event_id,
    e.workspace AS workspace,
    e.source AS source,
    e.occurred_at AS occurred_at,
    if(m.into_profile_id = '', e.profile_id, m.into_profile_id) AS profile_id,
    e.value AS value,
    goal.1 AS goal_type,
    goal.2 AS goal_value
FROM
(
    SELECT
        event_id,
        workspace,
        source,
        occurred_at,
        profile_id,
        value,
        ifNull(properties.path.:String, '') AS own_path,
        coalesce(nullIf(properties.url.:String, ''), context.page.url.:String, '') AS url,
        multiIf(
            event NOT IN ('page_view', 'page'), '',
            own_path != '', own_path,
            url = '', '',
            path(url) = '', '/',
            path(url)
        ) AS page_path,
        ('event', toString(event)) AS by_name,
        if(page_path = '', [by_name], [by_name, ('path', page_path)]) AS goals
    FROM {{database}}.events
) AS e
ARRAY JOIN e.goals AS goal
LEFT ANY JOIN {{database}}.merged_profiles AS m
    ON m.workspace = e.workspace AND m.merged_profile_id = e.profile_id;

-- Exposures: who was shown which variation of which experiment, and when. People who only were
-- given the default because they are not part of the experiment (traffic not allocated, paused,
-- not in its target) and testers (overridden) were not exposed to anything that is measured.
CREATE OR REPLACE VIEW {{database}}.exposures {{cluster}} AS
SELECT
    e.event_id AS event_id,
    e.workspace AS workspace,
    e.source AS source,
    e.occurred_at AS occurred_at,
    if(m.into_profile_id = '', e.profile_id, m.into_profile_id) AS profile_id,
    e.experiment AS experiment,
    e.variation AS variation
FROM
(
    SELECT
        event_id,
        workspace,
        source,
        occurred_at,
        profile_id,
        properties.experiment_key::String AS experiment,
        properties.variation_key::String AS variation
    FROM {{database}}.events
    WHERE event = '$exposure' AND profile_id != '' AND variation != ''
        -- feature flags have keys of their own, which may be the same as an experiment's
        AND properties.experiment_type::String IN ('', 'AB_TEST')
        AND properties.decision_reason::String IN (
            '', 'TRAFFIC_ALLOCATED', 'TRAFFIC_ALLOCATED_BY_TARGETING'
        )
) AS e
LEFT ANY JOIN {{database}}.merged_profiles AS m
    ON m.workspace = e.workspace AND m.merged_profile_id = e.profile_id;

-- One row a person of an experiment: the variations seen, the first exposure, and the goal events
-- from then on, of any source (of the same workspace: its people are the same). Exposures and goal
-- events count from `since` up to `until`; `source`: of the exposures, empty for any.
CREATE OR REPLACE VIEW {{database}}.experiment_people {{cluster}} AS
SELECT
    exposed.workspace AS workspace,
    exposed.profile_id AS profile_id,
    any(exposed.variations) AS variations,
    any(exposed.exposed_at) AS exposed_at,
    countIf(goal.happened AND goal.occurred_at >= exposed.exposed_at) AS conversions,
    sumIf(goal.value, goal.happened AND goal.occurred_at >= exposed.exposed_at) AS value
FROM
(
    SELECT
        workspace,
        profile_id,
        groupUniqArray(variation) AS variations,
        min(occurred_at) AS exposed_at
    FROM {{database}}.exposures
    WHERE experiment = {experiment:String}
        AND ({source:String} = '' OR source = {source:String})
        AND occurred_at >= {since:DateTime64(3, 'UTC')} AND occurred_at < {until:DateTime64(3, 'UTC')}
    GROUP BY workspace, profile_id
) AS exposed
LEFT JOIN
(
    SELECT workspace, profile_id, occurred_at, ifNull(value, 0) AS value, true AS happened
    FROM {{database}}.events_of_people
    WHERE event = {goal:String} AND profile_id != ''
        AND occurred_at >= {since:DateTime64(3, 'UTC')} AND occurred_at < {until:DateTime64(3, 'UTC')}
) AS goal ON goal.workspace = exposed.workspace AND goal.profile_id = exposed.profile_id
GROUP BY workspace, profile_id;

-- An experiment by variation: how many people, what they did, and the moments of it. People who saw
-- several variations are in none of the figures but `mixed`. The last two are a variation's values as
-- either sample of Welch's test.
CREATE OR REPLACE VIEW {{database}}.experiment_variations {{cluster}} AS
SELECT
    variation,
    countIf(alone) AS exposed,
    countIf(NOT alone) AS mixed,
    countIf(alone AND p.conversions > 0) AS converted,
    sumIf(p.conversions, alone) AS conversions,
    sumIf(p.value, alone) AS value_sum,
    if(exposed = 0, NULL, converted / exposed) AS conversion_rate,
    conversion_rate * (1 - conversion_rate) AS rate_variance,
    if(exposed = 0, NULL, value_sum / exposed) AS mean_value,
    varSampStableIf(p.value, alone) AS value_variance,
    welchTTestStateIf(0.95)(p.value, toUInt8(0), alone) AS as_treatment,
    welchTTestStateIf(0.95)(p.value, toUInt8(1), alone) AS as_control
FROM
(
    SELECT *, length(variations) = 1 AS alone
    FROM {{database}}.experiment_people(
        experiment = {experiment:String}, goal = {goal:String}, source = {source:String},
        since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')}
    )
) AS p
ARRAY JOIN p.variations AS variation
GROUP BY variation;

-- An experiment by variation, each held against the control variation (`control`; empty: the first
-- by name).
--
-- Of n people, x being 1 or 0 for converted, or the sum of the values of their goal events: m the
-- mean of x, s2 its sample variance (m(1 - m) for converted), t a treatment, c the control:
--   difference    m_t - m_c
--     of rates    +- z SE, SE2 = s2_t/n_t + s2_c/n_c (Wald, not pooled: p < 0.05 exactly where the
--                 interval leaves 0 out)
--     of means    Welch's t-test (Welch 1947, The generalization of "Student's" problem, Biometrika
--                 34), by ClickHouse's welchTTest of both samples' moments
--   lift          m_t / m_c - 1, +- z SE, by the delta method: SE2 = s2_t / (n_t m_c2)
--                 + m_t2 s2_c / (n_c m_c4) (Deng, Knoblich, Lu 2018, Applying the Delta Method in
--                 Metric Analytics, KDD, https://arxiv.org/abs/1803.06336)
-- All intervals are of 95 %, all p-values two-sided. NULL: nothing to compare, or no spread.
CREATE OR REPLACE VIEW {{database}}.experiment_results {{cluster}} AS
WITH
    1.959963984540054 AS z,
    x -> if(isFinite(x), x, NULL) AS known,
    sqrt(rate_variance / exposed + control_rate_variance / control_exposed) AS rate_error,
    sqrt(
        rate_variance / exposed / pow(control_rate, 2)
        + pow(t.conversion_rate, 2) * control_rate_variance / control_exposed / pow(control_rate, 4)
    ) AS rate_lift_error,
    sqrt(
        value_variance / exposed / pow(control_mean, 2)
        + pow(t.mean_value, 2) * control_value_variance / control_exposed / pow(control_mean, 4)
    ) AS mean_lift_error,
    arrayReduce('welchTTestMerge(0.95)', [as_treatment, control_sample]) AS welch
SELECT
    variation,
    is_control,
    exposed,
    mixed,
    converted,
    conversions,
    t.conversion_rate AS conversion_rate,
    value_sum,
    t.mean_value AS mean_value,
    known(t.conversion_rate - control_rate) AS rate_difference,
    known(rate_difference - z * rate_error) AS rate_difference_low,
    known(rate_difference + z * rate_error) AS rate_difference_high,
    known(t.conversion_rate / control_rate - 1) AS rate_lift,
    known(rate_lift - z * rate_lift_error) AS rate_lift_low,
    known(rate_lift + z * rate_lift_error) AS rate_lift_high,
    known(erfc(abs(rate_difference) / rate_error / sqrt(2))) AS rate_p_value,
    known(t.mean_value - control_mean) AS mean_difference,
    if(is_control, NULL, known(welch.confidence_interval_low)) AS mean_difference_low,
    if(is_control, NULL, known(welch.confidence_interval_high)) AS mean_difference_high,
    known(t.mean_value / control_mean - 1) AS mean_lift,
    known(mean_lift - z * mean_lift_error) AS mean_lift_low,
    known(mean_lift + z * mean_lift_error) AS mean_lift_high,
    if(is_control, NULL, known(welch.p_value)) AS mean_p_value
FROM
(
    -- the control's figures beside every other variation's, NULL beside its own
    SELECT
        *,
        variation = control_variation AS is_control,
        if(is_control, NULL, anyOrNullIf(exposed, is_control) OVER ()) AS control_exposed,
        if(is_control, NULL, anyOrNullIf(conversion_rate, is_control) OVER ()) AS control_rate,
        if(is_control, NULL, anyOrNullIf(rate_variance, is_control) OVER ()) AS control_rate_variance,
        if(is_control, NULL, anyOrNullIf(mean_value, is_control) OVER ()) AS control_mean,
        if(is_control, NULL, anyOrNullIf(value_variance, is_control) OVER ()) AS control_value_variance,
        anyIf(as_control, is_control) OVER () AS control_sample
    FROM
    (
        SELECT
            *,
            if({control:String} = '', min(variation) OVER (), {control:String}) AS control_variation
        FROM {{database}}.experiment_variations(
            experiment = {experiment:String}, goal = {goal:String}, source = {source:String},
            since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')}
        )
    )
) AS t;

-- The same of all time and all sources, against the first variation by name.
CREATE OR REPLACE VIEW {{database}}.experiment {{cluster}} AS
SELECT *
FROM {{database}}.experiment_results(
    experiment = {experiment:String}, goal = {goal:String}, control = '', source = '',
    since = '1900-01-01 00:00:00', until = '2299-12-31 00:00:00'
);
