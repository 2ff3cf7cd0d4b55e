// SPDX-License-Identifier: Apache-2.0
//
// A ring all-reduce in SimGrid, on the same fat tree and with the same rules as `commbench sim`: what the two are held
// against in speed and in predicted time.
//
//   ring RANKS BYTES HOSTS_PER_LEAF STYLE [--placement FILE] [--jitter FRACTION --seed N] [SimGrid's own options]
//
// Fabric: two levels, HOSTS_PER_LEAF hosts on every leaf and as many spines, 12.5e9 bytes/s and 1 us in each direction
// of every link, d-mod-k. Model: CM02 without cross traffic, which is bytes / bandwidth + latency and max-min fair
// shares, nothing else; time and share precision, solver (maxmin, lazy) and contexts (raw) are SimGrid's defaults, the
// fastest of what it offers (contexts boost, ucontext, smaller stacks: no faster; solver bmf, optim Full: slower).
//
// Work: 2 (RANKS - 1) steps; in step s rank r sends BYTES / RANKS bytes to rank r + 1 (modulo RANKS). The transfer
// starts when both have ended step s - 1 (rendezvous); a rank has ended a step when its send and its receive of that
// step have ended.
//
// STYLE is how that is written; the prediction is the same, the faster one depends on the case:
//   actors     an actor per rank; get_async and put_async on mailboxes, then wait for both (wait_any is cheaper than
//              wait, which also sets a timer)
//   callbacks  no actors: the callback at the end of a transfer starts whatever is then due. SimGrid keeps all
//              activities that no actor started in one list and walks it at each end: good for few at a time.
//
// Jitter: the transfer of step s by rank r carries floor(bytes * (1 + FRACTION * (2 u - 1)) + 0.5) bytes in doubles,
// u = (splitmix64(seed * 2^40 + s * 2^20 + r) >> 11) * 2^-53, and splitmix64(x), all modulo 2^64, is
//   x += 0x9E3779B97F4A7C15;  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;  x = (x ^ x >> 27) * 0x94D049BB133111EB;
//   result x ^ x >> 31.
//
// Prints one line of JSON: time_ps (simulated time to the nearest ps), time_us (nine decimals), run_s (wall-clock
// seconds of the simulation alone) and version. Compile: g++ -O2 -ffp-contract=off ring.cpp -lsimgrid

#include <simgrid/s4u.hpp>
#include <simgrid/version.h>
#include <xbt/log.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace sg4 = simgrid::s4u;

namespace {

constexpr double bandwidth = 12.5e9; // bytes/s
constexpr double latency   = 1e-6;   // s

struct Setting {
  int ranks           = 0;
  uint64_t bytes      = 0;
  int hosts_per_leaf  = 0;
  std::string style;
  std::string placement; // file of host numbers, one per rank; "" puts rank r on host r
  double jitter = 0;
  uint64_t seed = 0;

  long steps() const { return 2L * (ranks - 1); }

  uint64_t transfer_bytes(long step, int rank) const
  {
    const uint64_t chunk = bytes / ranks;
    if (jitter == 0)
      return chunk;
    uint64_t x = (seed << 40) + (static_cast<uint64_t>(step) << 20) + static_cast<uint64_t>(rank);
    x += 0x9E3779B97F4A7C15ULL;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ x >> 27) * 0x94D049BB133111EBULL;
    x ^= x >> 31;
    const double u = static_cast<double>(x >> 11) * 0x1p-53;
    return static_cast<uint64_t>(std::floor(static_cast<double>(chunk) * (1.0 + jitter * (2.0 * u - 1.0)) + 0.5));
  }
};

[[noreturn]] void refuse(const std::string& why)
{
  std::fprintf(stderr, "ring: %s\n", why.c_str());
  std::exit(2);
}

Setting read_setting(int argc, char** argv)
{
  if (argc < 5)
    refuse("give RANKS BYTES HOSTS_PER_LEAF STYLE [--placement FILE] [--jitter FRACTION --seed N]");
  Setting setting;
  setting.ranks          = std::atoi(argv[1]);
  setting.bytes          = std::strtoull(argv[2], nullptr, 10);
  setting.hosts_per_leaf = std::atoi(argv[3]);
  setting.style          = argv[4];
  for (int i = 5; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc)
      refuse(name + " needs a value");
    if (name == "--placement")
      setting.placement = argv[i + 1];
    else if (name == "--jitter")
      setting.jitter = std::atof(argv[i + 1]);
    else if (name == "--seed")
      setting.seed = std::strtoull(argv[i + 1], nullptr, 10);
    else
      refuse(name + " is unknown");
  }
  if (setting.ranks < 2 || setting.hosts_per_leaf < 1 || setting.ranks % setting.hosts_per_leaf != 0)
    refuse("RANKS must be 2 or more and a multiple of HOSTS_PER_LEAF");
  if (setting.bytes == 0 || setting.bytes % (4ULL * setting.ranks) != 0)
    refuse("BYTES must be a multiple of 4 x RANKS, so that all chunks are equal");
  if (setting.style != "actors" && setting.style != "callbacks")
    refuse("STYLE must be actors or callbacks, not " + setting.style);
  return setting;
}

std::vector<sg4::Host*> build_fat_tree(const Setting& setting)
{
  std::vector<sg4::Host*> hosts;
  const auto spines = static_cast<unsigned>(setting.hosts_per_leaf);
  const auto leaves = static_cast<unsigned>(setting.ranks / setting.hosts_per_leaf);
  const sg4::ClusterCallbacks make_host([&hosts](sg4::NetZone* zone, const std::vector<unsigned long>&, unsigned long id) {
    hosts.push_back(zone->create_host("host" + std::to_string(id), 1e9));
    return std::pair<simgrid::kernel::routing::NetPoint*, simgrid::kernel::routing::NetPoint*>(
        hosts.back()->get_netpoint(), nullptr);
  });
  sg4::create_fatTree_zone("fat-tree", nullptr, {2, {spines, leaves}, {1, spines}, {1, 1}}, make_host, bandwidth, latency,
                           sg4::Link::SharingPolicy::SPLITDUPLEX)
      ->seal();
  return hosts;
}

// The host of every rank.
std::vector<sg4::Host*> place(const Setting& setting, const std::vector<sg4::Host*>& hosts)
{
  if (setting.placement.empty())
    return hosts;
  std::ifstream file(setting.placement);
  std::vector<sg4::Host*> placed;
  for (size_t number = 0; file >> number;) {
    if (number >= hosts.size())
      refuse(setting.placement + ": host " + std::to_string(number) + " is outside 0.." +
             std::to_string(hosts.size() - 1));
    placed.push_back(hosts[number]);
  }
  if (placed.size() != hosts.size())
    refuse(setting.placement + ": " + std::to_string(placed.size()) + " host numbers for " +
           std::to_string(hosts.size()) + " ranks");
  return placed;
}

void run_actors(const Setting& setting, const std::vector<sg4::Host*>& placed, const sg4::Engine& engine)
{
  std::vector<sg4::Mailbox*> into; // of every rank
  for (int rank = 0; rank < setting.ranks; rank++)
    into.push_back(sg4::Mailbox::by_name(std::to_string(rank)));
  for (int rank = 0; rank < setting.ranks; rank++)
    sg4::Actor::create("rank" + std::to_string(rank), placed[rank], [&setting, &into, rank] {
      sg4::Mailbox* next = into[(rank + 1) % setting.ranks];
      int payload        = 0;
      int* received      = nullptr;
      std::vector<sg4::CommPtr> one(1);
      for (long step = 0; step < setting.steps(); step++) {
        auto receive = into[rank]->get_async<int>(&received);
        auto send    = next->put_async(&payload, setting.transfer_bytes(step, rank));
        for (auto& half : {receive, send}) {
          one[0] = half;
          sg4::Comm::wait_any(one);
        }
      }
    });
  engine.run();
}

// The ring without actors. Transfer r goes from rank r to rank r + 1.
class Ring {
  const Setting& setting_;
  const std::vector<sg4::Host*>& placed_;
  std::vector<long> step_;         // of every rank: the step that it is in
  std::vector<int> ended_;         // of every rank: how many of its two transfers of that step have ended
  std::vector<int> ready_;         // of every transfer: how many of its two ranks have come to its next step
  std::vector<int> number_;        // 0, 1, ...: what a transfer points to, so that its end tells which it was
  std::vector<sg4::CommPtr> last_; // keeps every transfer alive to its end

  void start(int transfer)
  {
    auto comm = sg4::Comm::sendto_init(placed_[transfer], placed_[(transfer + 1) % setting_.ranks]);
    comm->set_payload_size(setting_.transfer_bytes(step_[transfer], transfer));
    comm->set_data(&number_[transfer]);
    comm->start();
    last_[transfer] = std::move(comm);
  }

  void arrive(int transfer)
  {
    if (++ready_[transfer] == 2) {
      ready_[transfer] = 0;
      start(transfer);
    }
  }

  void end_half(int rank)
  {
    if (++ended_[rank] < 2)
      return;
    ended_[rank] = 0;
    if (++step_[rank] == setting_.steps())
      return;
    arrive(rank);
    arrive((rank + setting_.ranks - 1) % setting_.ranks);
  }

public:
  Ring(const Setting& setting, const std::vector<sg4::Host*>& placed)
      : setting_(setting), placed_(placed), step_(setting.ranks), ended_(setting.ranks), ready_(setting.ranks),
        number_(setting.ranks), last_(setting.ranks)
  {
    for (int rank = 0; rank < setting.ranks; rank++)
      number_[rank] = rank;
  }

  void run(const sg4::Engine& engine)
  {
    sg4::Activity::on_completion_cb([this](const sg4::Activity& activity) {
      const int transfer = *activity.get_data<int>();
      end_half(transfer);
      end_half((transfer + 1) % setting_.ranks);
    });
    for (int transfer = 0; transfer < setting_.ranks; transfer++)
      start(transfer);
    engine.run();
    for (int rank = 0; rank < setting_.ranks; rank++)
      if (step_[rank] != setting_.steps())
        refuse("rank " + std::to_string(rank) + " never ended step " + std::to_string(step_[rank]));
  }
};

} // namespace

int main(int argc, char** argv)
{
  sg4::Engine engine(&argc, argv); // takes its own options out of argv
  xbt_log_control_set("root.thresh:warning");
  const Setting setting = read_setting(argc, argv);
  sg4::Engine::set_config("network/model:CM02");
  sg4::Engine::set_config("network/crosstraffic:0");
  const auto hosts  = build_fat_tree(setting);
  const auto placed = place(setting, hosts);

  const auto began = std::chrono::steady_clock::now();
  if (setting.style == "actors")
    run_actors(setting, placed, engine);
  else
    Ring(setting, placed).run(engine);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;

  int major = 0;
  int minor = 0;
  int patch = 0;
  sg_version_get(&major, &minor, &patch);
  const double time_s = sg4::Engine::get_clock();
  std::printf("{\"time_ps\": %lld, \"time_us\": %.9f, \"run_s\": %.6f, \"version\": \"%d.%d.%d\"}\n",
              std::llround(time_s * 1e12), time_s * 1e6, took.count(), major, minor, patch);
}
