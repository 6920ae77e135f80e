//! What River 0.26.1 was measured at on streams of the same laws: 20 seeds, change at 10,000, a change not
//! found within 2,500 samples missed; false alarms before the change.

/// Detector, stream, median delay (none found: nothing), 95th of a hundred, missed of 20, false alarms in
/// 100,000.
pub(super) type Row = (&'static str, &'static str, Option<f64>, Option<f64>, u64, f64);

/// Where the numbers are from.
pub(super) const SOURCE: &str = "River 0.26.1, measured before on streams of the same laws";

/// Those that are compared with.
pub(super) const ROWS: [Row; 30] = [
    ("ADWIN", "bern_abrupt_.1_.3", Some(111.0), Some(176.6), 0, 0.0),
    ("PageHinkley", "bern_abrupt_.1_.3", Some(208.0), Some(268.6), 0, 1.5),
    ("DDM", "bern_abrupt_.1_.3", Some(375.5), Some(1393.8), 0, 7.0),
    ("HDDM_A", "bern_abrupt_.1_.3", Some(158.0), Some(337.8), 0, 0.25),
    ("ADWIN", "bern_abrupt_.1_.2", Some(287.0), Some(466.2), 0, 0.0),
    ("PageHinkley", "bern_abrupt_.1_.2", Some(454.5), Some(604.4), 0, 0.75),
    ("DDM", "bern_abrupt_.1_.2", Some(697.5), Some(2094.8), 4, 8.0),
    ("HDDM_A", "bern_abrupt_.1_.2", Some(510.0), Some(779.0), 0, 0.75),
    ("ADWIN", "bern_gradual1k_.1_.3", Some(607.0), Some(720.6), 0, 0.0),
    ("PageHinkley", "bern_gradual1k_.1_.3", Some(653.0), Some(772.5), 0, 1.75),
    ("DDM", "bern_gradual1k_.1_.3", Some(926.0), Some(1898.9), 0, 7.0),
    ("HDDM_A", "bern_gradual1k_.1_.3", Some(765.5), Some(927.8), 0, 0.25),
    ("ADWIN", "bern_decrease_.3_.1", Some(175.0), Some(239.0), 0, 0.0),
    ("PageHinkley", "bern_decrease_.3_.1", Some(220.5), Some(340.3), 0, 2.0),
    ("DDM", "bern_decrease_.3_.1", None, None, 20, 1.5),
    ("HDDM_A", "bern_decrease_.3_.1", None, None, 20, 1.75),
    ("ADWIN", "gauss_mean+0.5", Some(127.0), Some(175.0), 0, 0.0),
    ("PageHinkley", "gauss_mean+0.5", Some(73.5), Some(223.2), 0, 56.5),
    ("ADWIN", "gauss_mean+1", Some(47.0), Some(47.0), 0, 0.0),
    ("PageHinkley", "gauss_mean+1", Some(35.5), Some(73.5), 0, 56.0),
    ("ADWIN", "gauss_mean+1_gradual1k", Some(415.0), Some(464.6), 0, 0.0),
    ("PageHinkley", "gauss_mean+1_gradual1k", Some(272.5), Some(392.8), 0, 55.5),
    ("ADWIN", "gauss_std_x2", Some(495.0), Some(1711.0), 7, 0.75),
    ("PageHinkley", "gauss_std_x2", Some(278.0), Some(772.9), 0, 133.0),
    ("ADWIN", "bern_none_.1", None, None, 0, 0.0),
    ("PageHinkley", "bern_none_.1", None, None, 0, 2.9),
    ("DDM", "bern_none_.1", None, None, 0, 1.4),
    ("HDDM_A", "bern_none_.1", None, None, 0, 0.05),
    ("ADWIN", "gauss_none", None, None, 0, 0.0),
    ("PageHinkley", "gauss_none", None, None, 0, 62.85),
];
