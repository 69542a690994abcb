"""The sensors on offer, with the attributes of CARLA 0.9.16 and their defaults: (name, type, value).

What an attribute is at first is also what CARLA recommends, see `sensor_choices`. Lens and exposure attributes are
accepted and kept, so that scripts which set them run; the pictures are those of a
pinhole camera with a fixed exposure and take no notice of them.
"""

from __future__ import annotations

Entry = tuple[str, str, str]

_TICK: tuple[Entry, ...] = (("sensor_tick", "float", "0.0"),)
_IMAGE: tuple[Entry, ...] = (
    ("image_size_x", "int", "800"),
    ("image_size_y", "int", "600"),
    ("fov", "float", "90.0"),
    *_TICK,
)
_LENS: tuple[Entry, ...] = tuple(
    (name, "float", value)
    for name, value in {
        "lens_circle_falloff": "5.0", "lens_circle_multiplier": "0.0", "lens_k": "-1.0", "lens_kcube": "0.0",
        "lens_x_size": "0.08", "lens_y_size": "0.08",
    }.items()
)  # fmt: skip
_EXPOSURE: tuple[Entry, ...] = (
    ("enable_postprocess_effects", "bool", "true"),
    ("exposure_mode", "str", "histogram"),
    ("blade_count", "int", "5"),
    *(
        (name, "float", value)
        for name, value in {
            "gamma": "2.2", "shutter_speed": "200.0", "iso": "100.0", "fstop": "1.4", "min_fstop": "1.2",
            "bloom_intensity": "0.675", "lens_flare_intensity": "0.1", "exposure_compensation": "0.0",
            "exposure_min_bright": "10.0", "exposure_max_bright": "12.0", "exposure_speed_up": "3.0",
            "exposure_speed_down": "1.0", "calibration_constant": "16.0", "focal_distance": "1000.0",
            "blur_amount": "1.0", "blur_radius": "0.0", "motion_blur_intensity": "0.45",
            "motion_blur_max_distortion": "0.35", "motion_blur_min_object_screen_size": "0.1", "slope": "0.88",
            "toe": "0.55", "shoulder": "0.26", "black_clip": "0.0", "white_clip": "0.04", "temp": "6500.0",
            "tint": "0.0", "chromatic_aberration_intensity": "0.0", "chromatic_aberration_offset": "0.0",
        }.items()
    ),
)  # fmt: skip
_TEXTURES: Entry = ("textures", "bool", "true")  # ours: whether surfaces have textures
_LIDAR: tuple[Entry, ...] = (
    ("channels", "int", "32"),
    ("range", "float", "10.0"),
    ("points_per_second", "int", "56000"),
    ("rotation_frequency", "float", "10.0"),
    ("upper_fov", "float", "10.0"),
    ("lower_fov", "float", "-30.0"),
    ("horizontal_fov", "float", "360.0"),
    *_TICK,
)
_NOISY_LIDAR: tuple[Entry, ...] = (
    ("atmosphere_attenuation_rate", "float", "0.004"),
    ("dropoff_general_rate", "float", "0.45"),
    ("dropoff_intensity_limit", "float", "0.8"),
    ("dropoff_zero_intensity", "float", "0.4"),
    ("noise_stddev", "float", "0.0"),
    ("noise_seed", "int", "0"),
)
_GNSS = tuple((f"noise_{axis}_{kind}", "float", "0.0") for axis in ("lat", "lon", "alt") for kind in ("bias", "stddev"))
_IMU = (
    *((f"noise_accel_stddev_{axis}", "float", "0.0") for axis in "xyz"),
    *((f"noise_gyro_{kind}_{axis}", "float", "0.0") for kind in ("bias", "stddev") for axis in "xyz"),
)

# Thresholds in differences of the logarithm of brightness (of brightness itself without `use_log`), times in ns.
_EVENTS: tuple[Entry, ...] = (
    ("positive_threshold", "float", "0.3"),
    ("negative_threshold", "float", "0.3"),
    ("sigma_positive_threshold", "float", "0.0"),
    ("sigma_negative_threshold", "float", "0.0"),
    ("refractory_period_ns", "int", "0"),
    ("use_log", "bool", "true"),
    ("log_eps", "float", "0.001"),
)
_CHOICES = {"exposure_mode": ("histogram", "manual")}  # the rest may have any value of its type


def sensor_choices(name: str, value: str) -> tuple[tuple[str, ...], bool, bool]:
    """An attribute's recommended values, whether it may be modified, and whether it must have one of them."""
    return _CHOICES.get(name, (value,)), True, name in _CHOICES


SENSORS: dict[str, tuple[Entry, ...]] = {
    "sensor.camera.rgb": (*_IMAGE, *_LENS, *_EXPOSURE, _TEXTURES),
    "sensor.camera.depth": (*_IMAGE, *_LENS),
    "sensor.camera.semantic_segmentation": (*_IMAGE, *_LENS),
    "sensor.camera.instance_segmentation": (*_IMAGE, *_LENS),
    "sensor.camera.normals": (*_IMAGE, *_LENS),
    "sensor.camera.optical_flow": (*_IMAGE, *_LENS),
    "sensor.camera.cosmos_visualization": (*_IMAGE, *_LENS),
    "sensor.camera.dvs": (*_IMAGE, *_LENS, *_EXPOSURE, *_EVENTS, _TEXTURES),
    "sensor.lidar.ray_cast": (*_LIDAR, *_NOISY_LIDAR),
    "sensor.lidar.ray_cast_semantic": _LIDAR,
    "sensor.other.collision": (),
    "sensor.other.lane_invasion": (),
    "sensor.other.obstacle": (
        ("distance", "float", "5.0"),
        ("hit_radius", "float", "0.5"),
        ("only_dynamics", "bool", "false"),
        ("debug_linetrace", "bool", "false"),
        *_TICK,
    ),
    "sensor.other.gnss": (*_GNSS, ("noise_seed", "int", "0"), *_TICK),
    "sensor.other.imu": (*_IMU, ("noise_seed", "int", "0"), *_TICK),
    "sensor.other.radar": (
        ("horizontal_fov", "float", "30.0"),
        ("vertical_fov", "float", "30.0"),
        ("points_per_second", "int", "1500"),
        ("range", "float", "100.0"),
        ("noise_seed", "int", "0"),
        *_TICK,
    ),
}
