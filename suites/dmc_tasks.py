"""The tasks of `dm_control.suite` as data: each with its instruction, and what sets some of them apart.

Naming them here imports no simulator. The instructions are ours: what the picture shows, and what the task's code
rewards. Tasks of other numbers of links or poles, which dm_control can build as well, have no name there and none here.
"""

from __future__ import annotations

_CART = "Side view of a cart on a rail carrying a hinged pole"
_POLES = "Side view of a cart on a rail carrying {} poles hinged end to end: push the cart left or right to swing all "
_DOG = "View from above and aside, moving with a dog: drive its many joints to "
_HUMANOID = "View moving with a humanoid: drive its joints to "
_QUADRUPED = "View moving with a four-legged robot: "
_HAND = "Side view of an arm with a two-fingered hand"

INSTRUCTIONS = {
    ("acrobot", "swingup"): "Side view of two links hinged end to end, the first to a fixed point, with a motor in the "
    "joint between them: swing the free tip up until it points straight above the fixed point, and keep it there.",
    ("acrobot", "swingup_sparse"): "Side view of two links hinged end to end, the first to a fixed point, with a motor "
    "in the joint between them: swing them up until both point straight up; only the time spent there counts.",
    ("ball_in_cup", "catch"): "Side view of a cup with a ball hanging from it on a string: move the cup so that the "
    "ball swings up and comes to rest inside it.",
    ("cartpole", "balance"): f"{_CART} that starts upright: push the cart left or right to keep the pole upright near "
    "the middle of the rail.",
    ("cartpole", "balance_sparse"): f"{_CART} that starts upright: push the cart left or right to keep the pole "
    "upright and the cart near the middle of the rail; only the time spent so counts.",
    ("cartpole", "swingup"): f"{_CART}: push the cart left or right to swing the pole up, then keep it upright near "
    "the middle of the rail.",
    ("cartpole", "swingup_sparse"): f"{_CART}: push the cart left or right to swing the pole up, then keep it upright "
    "and the cart near the middle of the rail; only the time spent so counts.",
    ("cartpole", "two_poles"): _POLES.format("two") + "of them up, then keep them upright near the middle of the rail.",
    ("cartpole", "three_poles"): _POLES.format("three")
    + "of them up, then keep them upright near the middle of the rail.",
    ("cheetah", "run"): "Side view, moving with a flat two-legged robot: drive its hip, knee and ankle joints to run "
    "forward, to the right, as fast as possible.",
    ("dog", "stand"): f"{_DOG}get it up on its feet, and keep torso and pelvis high and level.",
    ("dog", "walk"): f"{_DOG}keep it up on its feet and walk forward, where it faces, at a moderate speed.",
    ("dog", "trot"): f"{_DOG}keep it up on its feet and trot forward, where it faces, at about three metres a second.",
    ("dog", "run"): f"{_DOG}keep it up on its feet and run forward, where it faces, as fast as possible.",
    (
        "dog",
        "fetch",
    ): f"{_DOG}keep it up on its feet, take the ball that was thrown into its mouth, and carry it to the red disc.",
    ("finger", "spin"): "Side view of a two-joint finger beside a free hinged body: flick the body so that it keeps "
    "spinning quickly.",
    ("finger", "turn_easy"): "Side view of a two-joint finger beside a free hinged body: turn the body until its "
    "marked tip lies in the large red target, and keep it there.",
    ("finger", "turn_hard"): "Side view of a two-joint finger beside a free hinged body: turn the body until its "
    "marked tip lies in the small red target, and keep it there.",
    ("fish", "upright"): "View from above, moving with a fish in water: drive its tail and fins to turn it upright, "
    "back up, and keep it so.",
    ("fish", "swim"): "View from above, moving with a fish in water: drive its tail and fins to swim until its mouth "
    "is at the red ball, and stay there, upright.",
    ("hopper", "stand"): "Side view, moving with a flat one-legged hopper: drive its waist, hip, knee and ankle to "
    "keep the torso high above the foot, with little effort.",
    ("hopper", "hop"): "Side view, moving with a flat one-legged hopper: drive its waist, hip, knee and ankle to hop "
    "forward while keeping the torso upright.",
    ("humanoid", "stand"): f"{_HUMANOID}get up and stand upright on the spot, with little effort.",
    ("humanoid", "walk"): f"{_HUMANOID}get up, stay upright and walk in any direction at a moderate speed.",
    ("humanoid", "run"): f"{_HUMANOID}get up, stay upright and run in any direction as fast as possible.",
    ("humanoid", "run_pure_state"): f"{_HUMANOID}get up, stay upright and run in any direction as fast as possible.",
    ("humanoid_CMU", "stand"): f"{_HUMANOID}get up and stand upright on the spot, with little effort.",
    ("humanoid_CMU", "walk"): f"{_HUMANOID}get up, stay upright and walk in any direction at a moderate speed.",
    ("humanoid_CMU", "run"): f"{_HUMANOID}get up, stay upright and run in any direction as fast as possible.",
    ("lqr", "lqr_2_1"): "View of two balls that slide along parallel tracks, joined by springs: push the first ball so "
    "that both come to rest at the wall that marks the middle, with little force.",
    ("lqr", "lqr_6_2"): "View of six balls that slide along parallel tracks, joined in a row by springs: push the "
    "first two so that all come to rest at the wall that marks the middle, with little force.",
    ("manipulator", "bring_ball"): f"{_HAND}: grasp the orange ball and hold it where the red one is drawn.",
    ("manipulator", "bring_peg"): f"{_HAND}: grasp the orange peg and hold it where the red one is drawn, turned the "
    "same way.",
    ("manipulator", "insert_ball"): f"{_HAND}: grasp the orange ball and put it into the blue cup, where the red one "
    "is drawn.",
    ("manipulator", "insert_peg"): f"{_HAND}: grasp the orange peg and put it into the slot of the blue block, where "
    "the red one is drawn.",
    ("pendulum", "swingup"): "Side view of a pole hinged at one end with a weak motor: swing it back and forth until "
    "it points up, then keep it there.",
    ("point_mass", "easy"): "Top view of a small ball in a square arena: push it along both axes onto the red target "
    "in the middle, and keep it there with little effort.",
    ("point_mass", "hard"): "Top view of a small ball in a square arena, pushed by two motors whose directions differ "
    "in every episode: bring it onto the red target in the middle, and keep it there with little effort.",
    ("quadruped", "walk"): f"{_QUADRUPED}drive its legs to get upright and walk forward, where it faces, at a moderate "
    "speed.",
    ("quadruped", "run"): f"{_QUADRUPED}drive its legs to get upright and run forward, where it faces, as fast as "
    "possible.",
    (
        "quadruped",
        "escape",
    ): f"{_QUADRUPED}drive its legs to climb out of a rugged bowl, away from its middle, and stay upright.",
    ("quadruped", "fetch"): f"{_QUADRUPED}drive its legs to reach the ball in a walled arena and push it onto the red "
    "disc in the middle, and stay upright.",
    ("reacher", "easy"): "Top view of a two-link arm in a square arena: turn the two joints so that the tip of the arm "
    "reaches the coloured target disc and stays on it.",
    ("reacher", "hard"): "Top view of a two-link arm in a square arena: turn the two joints so that the tip of the arm "
    "reaches the small coloured target disc and stays on it.",
    ("stacker", "stack_2"): f"{_HAND}, with two orange boxes: put a box where the red one is drawn, on top of the "
    "other if need be, and take the hand away.",
    ("stacker", "stack_4"): f"{_HAND}, with four orange boxes: put a box where the red one is drawn, on top of others "
    "if need be, and take the hand away.",
    ("swimmer", "swimmer6"): "View from behind and above, moving with a snake-like swimmer of six links: bend its "
    "joints to swim until its nose touches the red ball, and stay there.",
    ("swimmer", "swimmer15"): "View from behind and above, moving with a snake-like swimmer of fifteen links: bend its "
    "joints to swim until its nose touches the red ball, and stay there.",
    ("walker", "stand"): "Side view, moving with a flat two-legged walker: drive its hips, knees and ankles to get up "
    "and stand upright.",
    ("walker", "walk"): "Side view, moving with a flat two-legged walker: drive its hips, knees and ankles to stay "
    "upright and walk forward at a moderate speed.",
    ("walker", "run"): "Side view, moving with a flat two-legged walker: drive its hips, knees and ankles to stay "
    "upright and run forward as fast as possible.",
}
"""By domain and task, in the order of `dm_control.suite.ALL_TASKS`."""

DREAMERV3_VISION = (
    ("acrobot", "swingup"),
    ("ball_in_cup", "catch"),
    ("cartpole", "balance"),
    ("cartpole", "balance_sparse"),
    ("cartpole", "swingup"),
    ("cartpole", "swingup_sparse"),
    ("cheetah", "run"),
    ("finger", "spin"),
    ("finger", "turn_easy"),
    ("finger", "turn_hard"),
    ("hopper", "hop"),
    ("hopper", "stand"),
    ("pendulum", "swingup"),
    ("quadruped", "run"),
    ("quadruped", "walk"),
    ("reacher", "easy"),
    ("reacher", "hard"),
    ("walker", "run"),
    ("walker", "stand"),
    ("walker", "walk"),
)
"""The twenty tasks of `dmc_vision`: danijar/dreamerv3, commit e3f0224, scores/dmc_vision-dreamerv3.json.gz."""

CAMERAS = {"quadruped": 2, "dog.fetch": 2}
"""Fixed cameras other than 0, by domain or task.

quadruped: as DrQ-v2 (facebookresearch/drqv2, commit c0c650b, dmc.py), DreamerV3 and TD-MPC2. dog.fetch: that of the
other dog tasks; its camera 0 follows the ball, and the dog is not in the picture.
"""

SCORE_RANGES = {("lqr", "lqr_2_1"): (499.0, 857.0), ("lqr", "lqr_6_2"): (488.0, 765.0)}
"""Of tasks whose reward is not within 0 and 1: an undriven system, and the optimal controller.

`dm_control.suite.lqr_solver`, mean over the initial states of seeds 0 to 19, 1000 control steps.
"""

LQR_FORCE = 6.0
"""What an action of 1 means in lqr, whose actuators have no limit: the optimal controller asked for 5.9 at most."""
